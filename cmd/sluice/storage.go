package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/spf13/cobra"
)

// maxBlobBytes is the largest value that goes into one frame of the default limits.
const maxBlobBytes = codec.DefaultMaxPayloadBytes

func (p *program) storageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "storage",
		Short:   "Read, write, find and remove what the storage service keeps",
		GroupID: groupCalls,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.storageRead(), p.storageWrite(), p.storageFind(), p.storageRemove())
	return cmd
}

func (p *program) storageRead() *cobra.Command {
	var unpacked bool
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "read [flags] COLLECTION KEY",
		Short: "Print what is under a key, byte for byte",
		Long: `Read prints what is under a key, byte for byte. With --json that is one string of JSON,
or {"hex":"00ff"} if it is no text.

Manifests, profiles and the like are kept as msgpack: --unpack prints such a value as JSON.`,
		Example: `  sluice storage read users alice >alice.jpg
  sluice storage read --unpack manifests echo`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				blob, err := readBlob(ctx, c, args[0], args[1])
				if err != nil {
					return err
				}
				return p.printBlob(blob, unpacked, l.json)
			})
		},
	}
	l.flags(cmd, usualTimeout)
	cmd.Flags().BoolVar(&unpacked, "unpack", false, "the value is msgpack: print it as JSON")
	return cmd
}

// printBlob prints a value as the flags want it.
func (p *program) printBlob(blob []byte, unpacked, asJSON bool) error {
	switch {
	case unpacked:
		blob = append(codec.AppendJSONValue(nil, blob), '\n')
	case asJSON:
		blob = append(codec.AppendJSONValue(nil, codec.AppendRaw(nil, blob)), '\n')
	}
	_, err := p.out.Write(blob)
	return local(err)
}

func (p *program) storageWrite() *cobra.Command {
	var file string
	var tags []string
	var pack bool
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "write [flags] COLLECTION KEY [VALUE | -]",
		Short: "Put a value under a key, in place of what was there",
		Long: `Write puts VALUE under a key, or what stdin gives with -, or what is in --file, in place of
what was there. The tags are those that find asks for. A value has at most 16 MiB.

With --pack the value is JSON and is kept as msgpack, as manifests and profiles are.`,
		Example: `  sluice storage write users alice --file alice.jpg --tag user --tag admin
  date | sluice storage write log last -
  sluice storage write --pack profiles big '{"pool-limit":50}' --tag profile`,
		Args: cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 3) == (file != "") {
				return errors.New("want one of VALUE, - and --file")
			}
			blob, err := p.blob(cmd.Context(), args[2:], file)
			if err != nil {
				return local(err)
			}
			if pack {
				if blob, err = packBlob(blob); err != nil {
					return local(err)
				}
			}
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				err := writeBlob(ctx, c, args[0], args[1], blob, tags)
				return l.tell(err, map[string]any{"collection": args[0], "key": args[1], "bytes": len(blob), "done": "written"})
			})
		},
	}
	l.flags(cmd, usualTimeout)
	cmd.Flags().StringVar(&file, "file", "", "`FILE` that has the value")
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "`TAG` of the key; repeatable")
	cmd.Flags().BoolVar(&pack, "pack", false, "the value is JSON: keep it as msgpack")
	return cmd
}

// blob returns the value that the command line names: a word, stdin for "-", or a file.
func (p *program) blob(ctx context.Context, word []string, file string) ([]byte, error) {
	switch {
	case file != "":
		return p.readBounded(ctx, file)
	case word[0] == "-":
		return p.readBounded(ctx, "-")
	}
	return []byte(word[0]), nil
}

// packBlob returns JSON as msgpack.
func packBlob(text []byte) ([]byte, error) {
	v, ok := parseJSON(string(text))
	if !ok {
		return nil, errors.New("--pack: the value is no JSON")
	}
	return appendPacked(nil, v)
}

func (p *program) storageFind() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "find [flags] COLLECTION TAG...",
		Short: "Print the keys that have all of the tags, one a line",
		Example: `  sluice storage find manifests app
  sluice storage find users user admin`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				keys, err := findKeys(ctx, c, args[0], args[1:]...)
				if err != nil {
					return err
				}
				return p.printNames(keys, l.json)
			})
		},
	}
	l.flags(cmd, usualTimeout)
	return cmd
}

// printNames prints names, one a line.
func (p *program) printNames(names []string, asJSON bool) error {
	if asJSON {
		if names == nil {
			names = []string{} // not null
		}
		return p.printJSON(names)
	}
	for _, name := range names {
		if _, err := fmt.Fprintln(p.out, cell(name)); err != nil {
			return local(err)
		}
	}
	return nil
}

func (p *program) storageRemove() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:     "rm [flags] COLLECTION KEY...",
		Aliases: []string{"remove"},
		Short:   "Remove keys; one that is not there is no error",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				for _, key := range args[1:] {
					if err := removeKey(ctx, c, args[0], key); err != nil {
						return err
					}
				}
				return l.tell(nil, map[string]any{"collection": args[0], "keys": args[1:], "done": "removed"})
			})
		},
	}
	l.flags(cmd, usualTimeout)
	return cmd
}

// readBlob returns what the storage service has under a key.
func readBlob(ctx context.Context, c *service.Client, collection, key string) ([]byte, error) {
	reply, err := c.Service("storage").Call(ctx, "read", codec.Args(collection, key))
	if err != nil {
		return nil, err
	}
	r := reply.Reader()
	blob := r.Bytes()
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("the storage service's answer to read: %w", err)
	}
	return blob, nil
}

// writeBlob puts a blob under a key.
func writeBlob(ctx context.Context, c *service.Client, collection, key string, blob []byte, tags []string) error {
	_, err := c.Service("storage").Call(ctx, "write", codec.Args(collection, key, blob, tags))
	return err
}

// findKeys returns the keys that have all of the tags.
func findKeys(ctx context.Context, c *service.Client, collection string, tags ...string) ([]string, error) {
	reply, err := c.Service("storage").Call(ctx, "find", codec.Args(collection, tags))
	if err != nil {
		return nil, err
	}
	r := reply.Reader()
	keys := make([]string, r.ArrayLen())
	for i := range keys {
		keys[i] = r.String()
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("the storage service's answer to find: %w", err)
	}
	return keys, nil
}

// removeKey takes away what is under a key.
func removeKey(ctx context.Context, c *service.Client, collection, key string) error {
	_, err := c.Service("storage").Call(ctx, "remove", codec.Args(collection, key))
	return err
}
