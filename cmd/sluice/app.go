package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
	"github.com/spf13/cobra"
)

// The collections of the storage that have applications, and their tags, as cocaine-tools
// has them. Each value is one of msgpack.
const (
	manifests = "manifests" // a map
	archives  = "apps"      // a raw value: the package
	profiles  = "profiles"  // a map
	crashlogs = "crashlogs" // text; the key begins with a time, the tag is the application

	tagApp     = "app"
	tagProfile = "profile"
)

func (p *program) appCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "app",
		GroupID: groupApps,
		Short:   "Install, start and stop applications",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.appList(), p.appUpload(), p.appView(), p.appStart(), p.appPause(), p.appRestart(), p.appControl(), p.appRemove(),
		p.profileCommand(), p.crashlogCommand())
	return cmd
}

// appEntry is an application in a list.
type appEntry struct {
	Name     string `json:"name"`
	State    string `json:"state"` // of the node: running, broken, …; empty if it was not started
	Uploaded bool   `json:"uploaded"`
}

func (p *program) appList() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "list [flags]",
		Short: "Print the applications that run or are in the storage",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				list, err := listApps(ctx, c)
				if err != nil {
					return err
				}
				if l.json {
					return p.printJSON(list)
				}
				rows := make([][]string, len(list))
				for i, a := range list {
					rows[i] = []string{a.Name, a.State, yesNo(a.Uploaded)}
				}
				return p.table([]string{"APP", "STATE", "UPLOADED"}, rows)
			})
		},
	}
	l.flags(cmd, usualTimeout)
	return cmd
}

// listApps returns the applications that run or are in the storage, by name.
func listApps(ctx context.Context, c *service.Client) ([]appEntry, error) {
	running, err := runningApps(ctx, c)
	if err != nil {
		return nil, err
	}
	uploaded, err := findKeys(ctx, c, manifests, tagApp)
	if err != nil {
		return nil, err
	}
	names := slices.Concat(running, uploaded)
	slices.Sort(names)
	list := []appEntry{} // not null
	for _, name := range slices.Compact(names) {
		a := appEntry{Name: name, Uploaded: slices.Contains(uploaded, name)}
		if slices.Contains(running, name) {
			if a.State, err = appState(ctx, c, name); err != nil {
				return nil, err
			}
		}
		list = append(list, a)
	}
	return list, nil
}

// appState asks the node for the state of an application; empty if it has none any more.
func appState(ctx context.Context, c *service.Client, name string) (string, error) {
	reply, err := c.Service("node").Call(ctx, "info", codec.Args(name))
	if service.Is(err, service.CategoryNode, service.NodeNotRunning) {
		return "", nil
	}
	if errors.As(err, new(*service.MethodError)) {
		return "started", nil // a node of v0
	}
	if err != nil {
		return "", err
	}
	info, _ := unpack(reply.Args()).(map[string]any)
	state, ok := info["state"].(string)
	if !ok {
		state = "started" // a node that does not tell
	}
	return state, nil
}

// runningApps returns the names of the applications of the node.
func runningApps(ctx context.Context, c *service.Client) ([]string, error) {
	reply, err := c.Service("node").Call(ctx, "list", codec.Args())
	if err != nil {
		return nil, err
	}
	r := reply.Reader()
	names := make([]string, r.ArrayLen())
	for i := range names {
		names[i] = r.String()
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("the node's answer to list: %w", err)
	}
	return names, nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (p *program) appUpload() *cobra.Command {
	var start bool
	var profile string
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "upload [flags] NAME PATH",
		Short: "Put an application's package into the storage",
		Long: `Upload puts an application into the storage. PATH is a directory, or an archive of one (tar,
tar.gz, zip), with a file manifest.json at its top that names the program of the workers:

  {"slave": "worker.py", "environment": {"DEBUG": "1"}}

A file profile.json beside it becomes the profile of the application's name. An
application that runs goes on as it is until it is started anew: --start does that.`,
		Example: `  sluice app upload shop ./shop --start
  sluice app upload shop shop.tar.gz`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := engine.CheckAppName(args[0]); err != nil {
				return err
			}
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				if err := p.upload(ctx, c, args[0], args[1]); err != nil {
					return err
				}
				if !start {
					return l.done(nil, args[0], "uploaded")
				}
				return l.done(p.restart(ctx, c, l.protocol, args[0], profile), args[0], "started")
			})
		},
	}
	l.flags(cmd, 5*time.Minute)
	pathSecond(cmd)
	cmd.Flags().BoolVar(&start, "start", false, "start it, or start it anew")
	cmd.Flags().StringVar(&profile, "profile", "", "`PROFILE` to start it with")
	return cmd
}

// upload writes a package into the storage. The manifest comes last: with it the
// application is there.
func (p *program) upload(ctx context.Context, c *service.Client, name, path string) error {
	progress := p.progress("packing " + path)
	defer progress.end()
	pack, err := engine.ReadPackage(path, engine.PackageLimits{})
	if err != nil {
		return err
	}
	if len(pack.ArchiveBlob) > maxBlobBytes {
		return fmt.Errorf("%s has %d KiB when packed, and one call carries %d MiB; give it to the runtime itself: 'sluice up --package %s=%s'",
			path, len(pack.ArchiveBlob)>>10, maxBlobBytes>>20, name, path)
	}
	for _, key := range pack.UnknownProfileKeys {
		p.warn(fmt.Sprintf("%s: profile.json: %s is no key of a profile; is it misspelt?", path, key))
	}
	progress.step(fmt.Sprintf("uploading %s, %d KiB", name, (len(pack.ArchiveBlob)+1023)>>10))
	if err := writeBlob(ctx, c, archives, name, pack.ArchiveBlob, []string{tagApp}); err != nil {
		return err
	}
	if pack.ProfileBlob != nil {
		if err := writeBlob(ctx, c, profiles, name, pack.ProfileBlob, []string{tagProfile}); err != nil {
			return err
		}
	}
	return writeBlob(ctx, c, manifests, name, pack.ManifestBlob, []string{tagApp})
}

func (p *program) appView() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "view [flags] NAME",
		Short: "Print an application's manifest",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				return p.viewBlob(ctx, c, manifests, args[0], l.json)
			})
		},
	}
	l.flags(cmd, usualTimeout)
	l.completeNames(cmd, appNames)
	return cmd
}

// viewBlob prints a value of msgpack that is in the storage.
func (p *program) viewBlob(ctx context.Context, c *service.Client, collection, key string, asJSON bool) error {
	blob, err := readBlob(ctx, c, collection, key)
	if err != nil {
		return err
	}
	if asJSON {
		return p.printBlob(blob, true, true)
	}
	_, err = p.out.Write(appendTree(nil, "", unpackValue(blob)))
	return local(err)
}

func (p *program) appStart() *cobra.Command {
	var profile string
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "start [flags] NAME",
		Short: "Start an application that is in the storage",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				return l.done(startApp(ctx, c, l.protocol, args[0], profile), args[0], "started")
			})
		},
	}
	l.flags(cmd, usualTimeout)
	l.completeNames(cmd, appNames)
	cmd.Flags().StringVar(&profile, "profile", "", "`PROFILE` to start it with; none is that of the package, or the default one")
	return cmd
}

func (p *program) appPause() *cobra.Command {
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:     "pause [flags] NAME",
		Aliases: []string{"stop"},
		Short:   "Stop an application; its workers finish what they do",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				return l.done(pauseApp(ctx, c, l.protocol, args[0]), args[0], "paused")
			})
		},
	}
	l.flags(cmd, 2*time.Minute)
	l.completeNames(cmd, appNames)
	return cmd
}

func (p *program) appRestart() *cobra.Command {
	var profile string
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:   "restart [flags] NAME",
		Short: "Stop an application, if it runs, and start it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				return l.done(p.restart(ctx, c, l.protocol, args[0], profile), args[0], "started")
			})
		},
	}
	l.flags(cmd, 2*time.Minute)
	l.completeNames(cmd, appNames)
	cmd.Flags().StringVar(&profile, "profile", "", "`PROFILE` to start it with; none is that of the package, or the default one")
	return cmd
}

// restart stops an application if it runs, and starts it. With what an engine would refuse
// it is not stopped, as far as that can be told here; what the node refuses then has it run
// with the profile that it had.
func (p *program) restart(ctx context.Context, c *service.Client, protocol int, name, profile string) error {
	running, err := runningApps(ctx, c)
	if err != nil {
		return err
	}
	if !slices.Contains(running, name) {
		return startApp(ctx, c, protocol, name, profile)
	}
	if err := checkStored(ctx, c, name, profile); err != nil {
		return err
	}
	before := profileOf(ctx, c, name)
	if err := pauseApp(ctx, c, protocol, name); err != nil {
		return err
	}
	err = startApp(ctx, c, protocol, name, profile)
	if err != nil && profile != "" && startApp(ctx, c, protocol, name, before) == nil {
		p.warn(fmt.Sprintf("%s was started again as it was before", name))
	}
	return err
}

// checkStored returns what is wrong with the manifest and the profile that the storage has;
// those that it has not may be of the runtime's own.
func checkStored(ctx context.Context, c *service.Client, name, profile string) error {
	if profile == "" {
		profile = name
	}
	for _, part := range []struct {
		collection, key string
		check           func(file string, blob []byte) error
	}{
		{manifests, name, func(file string, blob []byte) error { _, err := engine.ParseManifest(file, blob); return err }},
		{profiles, profile, checkProfile},
	} {
		blob, err := readBlob(ctx, c, part.collection, part.key)
		var se *session.Error
		if errors.As(err, &se) && se.Remote {
			continue // it is not there
		}
		if err == nil {
			err = part.check(part.collection+"/"+part.key, blob)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func checkProfile(file string, blob []byte) error {
	if _, err := engine.CheckProfile(blob); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// profileOf asks the node which profile an application was started with; empty if that is
// the one that it has without being told, or if the node does not tell.
func profileOf(ctx context.Context, c *service.Client, name string) string {
	reply, err := c.Service("node").Call(ctx, "info", codec.Args(name))
	if err != nil {
		return ""
	}
	info, _ := unpack(reply.Args()).(map[string]any)
	profile, _ := info["profile"].(map[string]any)
	if text, _ := profile["name"].(string); text != "default" && text != name {
		return text
	}
	return ""
}

// startApp has the node start an application (protocol: app and node).
func startApp(ctx context.Context, c *service.Client, protocol int, name, profile string) error {
	args := codec.Args(name, profile)
	if protocol == 0 {
		args = codec.Args(packed{map[string]any{name: profile}})
	}
	_, err := c.Service("node").Call(ctx, "start_app", args)
	return err
}

// pauseApp has the node stop an application (protocol: app and node).
func pauseApp(ctx context.Context, c *service.Client, protocol int, name string) error {
	args := codec.Args(name)
	if protocol == 0 {
		args = codec.Args([]string{name})
	}
	_, err := c.Service("node").Call(ctx, "pause_app", args)
	return err
}

func (p *program) appRemove() *cobra.Command {
	var force bool
	l := &link{p: p}
	cmd := &cobra.Command{
		Use:     "rm [flags] NAME",
		Aliases: []string{"remove"},
		Short:   "Take an application out of the storage",
		Long: `Rm takes the manifest and the package of an application out of the storage. Its profile and
its crash logs stay. An application that runs has to be paused before; --force does that.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.run(cmd.Context(), func(ctx context.Context, c *service.Client) error {
				return l.done(remove(ctx, c, l.protocol, args[0], force), args[0], "removed")
			})
		},
	}
	l.flags(cmd, 2*time.Minute)
	l.completeNames(cmd, appNames)
	cmd.Flags().BoolVar(&force, "force", false, "pause it if it runs")
	return cmd
}

// remove takes an application out of the storage. The manifest goes first: without it the
// application is not there.
func remove(ctx context.Context, c *service.Client, protocol int, name string, force bool) error {
	running, err := runningApps(ctx, c)
	if err != nil {
		return err
	}
	if slices.Contains(running, name) {
		if !force {
			return fmt.Errorf("%s is started: 'sluice app pause %s' before, or --force", name, name)
		}
		if err := pauseApp(ctx, c, protocol, name); err != nil {
			return err
		}
	}
	if err := removeKey(ctx, c, manifests, name); err != nil {
		return err
	}
	return removeKey(ctx, c, archives, name)
}
