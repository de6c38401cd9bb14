package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

func (p *program) profileCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "profile",
		Short: "List, print, upload and remove profiles: how applications are run",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.profileList(), p.profileView(), p.profileUpload(), p.profileRemove())
	return cmd
}

func (p *program) profileList() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "list [flags]",
		Short: "Print the names of the profiles in the storage, one a line",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				names, err := findKeys(ctx, c, profiles, tagProfile)
				if err != nil {
					return err
				}
				return p.printNames(names, l.json)
			})
		},
	}
	l.flags(cmd, usualTimeout)
	return cmd
}

func (p *program) profileView() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "view [flags] NAME",
		Short: "Print a profile",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				return p.viewBlob(ctx, c, profiles, args[0], l.json)
			})
		},
	}
	l.flags(cmd, usualTimeout)
	return cmd
}

func (p *program) profileUpload() *cobra.Command {
	var file string
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "upload [flags] NAME [PROFILE | -]",
		Short: "Put a profile into the storage",
		Long: `Upload puts a profile into the storage. PROFILE is a map of JSON or YAML, - is stdin. What it
does not name has its default. An application takes it when it is started anew.`,
		Example: `  sluice app profile upload small '{"pool-limit": 2, "concurrency": 50}'
  sluice app profile upload large --file large.yaml`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 2) == (file != "") {
				return errors.New("want one of PROFILE, - and --file")
			}
			text, err := p.blob(cmd.Context(), args[1:], file)
			if err != nil {
				return local(err)
			}
			blob, err := p.packProfile(text)
			if err != nil {
				return local(err)
			}
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				return l.done(writeBlob(ctx, c, profiles, args[0], blob, []string{tagProfile}), args[0], "uploaded")
			})
		},
	}
	l.flags(cmd, usualTimeout)
	cmd.Flags().StringVar(&file, "file", "", "`FILE` with the profile, JSON or YAML")
	return cmd
}

// packProfile returns a profile as the storage has it, if an engine would take it.
func (p *program) packProfile(text []byte) ([]byte, error) {
	text, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, fmt.Errorf("the profile: %w", err)
	}
	unknown, err := engine.CheckProfile(text)
	if err != nil {
		return nil, fmt.Errorf("the profile: %w", err)
	}
	for _, key := range unknown {
		p.warn(key + " is no key of a profile; is it misspelt?")
	}
	v, _ := parseJSON(string(text)) // CheckProfile has read it
	return appendPacked(nil, v)
}

func (p *program) profileRemove() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:     "rm [flags] NAME",
		Aliases: []string{"remove"},
		Short:   "Take a profile out of the storage",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				return l.done(removeKey(ctx, c, profiles, args[0]), args[0], "removed")
			})
		},
	}
	l.flags(cmd, usualTimeout)
	return cmd
}
