package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/service"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

const (
	maxConfigBytes    = 4 << 20          // of a configuration file
	engineKillTimeout = 10 * time.Second // for the engine to end when nothing is waited for
)

// node is one run of sluice up.
type node struct {
	p     *program
	log   io.Writer                              // stderr; it never waits
	flags interface{ Changed(name string) bool } // which of these were given

	config    string
	apps      []string
	packages  []string
	listen    string
	dir       string
	grace     time.Duration
	protocol  int
	logLevel  slog.Level
	logFormat string
	json      bool
	published bool
}

const upHelp = `Up runs a whole runtime on this machine: the services locator, node, storage and
logging, and applications, whose workers it starts when they are needed.

An --app is a command that runs a worker, for development: one simple command for the
shell, to which the runtime's flags are appended. A --package is an application with a
manifest.json, as a directory, tar, tar.gz or zip.

On stdout there is one line for each service, with its name and where it listens, and
then the line "ready". The log and what workers print go to stderr.

The state is in --dir. Without one it is in a temporary directory and goes with the
runtime. Whoever can connect can do everything: --listen on other addresses than the
machine's own is for networks that you trust.

The file of --config is JSON or YAML:

  listen: 127.0.0.1:10053
  dir: /var/lib/sluice
  apps:
    echo: {command: go run ./examples/echo, profile: small}
    shop: {path: /srv/shop.tar.gz}
  profiles:
    small: {pool-limit: 2, concurrency: 50}
  groups:
    echo-all: {echo: 3, echo-next: 1}

Flags count before what is in the file.

SIGTERM and SIGINT stop it: workers finish what they do for up to --grace, then they are
ended. A second one ends all at once. SIGHUP reads the profiles and groups of the file anew.

Exit status: 0 after a signal, 2 if the command line or the file is wrong, 3 for anything
else, such as an address that is taken.`

func (p *program) upCommand() *cobra.Command {
	n := &node{p: p}
	cmd := &cobra.Command{
		Use:     "up [flags]",
		GroupID: groupRuntime,
		Short:   "Run a runtime: applications, locator, storage, logging",
		Long:    upHelp,
		Example: `  sluice up --app 'echo=go run ./examples/echo'
  sluice up --app echo=./echo --app 'shop=python3 shop.py' --dir ./state
  sluice up --config sluice.yaml --log-level debug`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n.flags = cmd.Flags()
			return n.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&n.apps, "app", nil, "`NAME=COMMAND` of an application to run; repeatable")
	f.StringArrayVar(&n.packages, "package", nil, "`NAME=PATH` of an application's package to install and run; repeatable")
	f.StringVar(&n.config, "config", "", "`FILE` with the configuration, JSON or YAML")
	f.StringVar(&n.listen, "listen", defaultLocator, "`ADDRESS` of the locator; the other services are on the ports above it")
	f.StringVar(&n.dir, "dir", "", "`DIRECTORY` of the state; none is a temporary one")
	f.BoolVar(&n.published, "resolve-published", false, "have the locator resolve the services that clients publish, too")
	f.DurationVar(&n.grace, "grace", engine.DefaultGrace, "how long workers may finish what they do; 0 is not at all")
	f.TextVar(&n.logLevel, "log-level", slog.LevelInfo, "least `LEVEL` of what is logged: debug, info, warn, error")
	f.Lookup("log-level").DefValue = "info"
	f.StringVar(&n.logFormat, "log-format", "text", "`FORMAT` of the log: text or json")
	f.BoolVar(&n.json, "json", false, "print the services as JSON, for programs")
	protocolFlag(cmd, &n.protocol)
	// The errors say that there is no such flag.
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions([]cobra.Completion{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions([]cobra.Completion{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagFilename("config", "yaml", "yml", "json")
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

// run runs the engine until a signal.
func (n *node) run(ctx context.Context) error {
	var hangups <-chan os.Signal
	if n.p.hangups != nil {
		hangups = n.p.hangups() // one that comes before the engine runs is kept until then
	}
	log := newSpill(n.p.err)
	defer log.close()
	n.log = log
	cfg, err := n.engineConfig()
	if err != nil {
		return err
	}
	e, err := engine.New(cfg)
	if err != nil {
		return err // all that it looks at is the configuration
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	told := n.announce(ctx, e, ended)
	if told != nil {
		stop()
	}
	return cmp.Or(told, n.serve(ctx, e, hangups, ended))
}

// announce waits until the engine is ready and prints where it listens. If the engine
// ends meanwhile, serve sees that.
func (n *node) announce(ctx context.Context, e *engine.Engine, ended chan error) error {
	select {
	case <-e.Ready():
	case err := <-ended:
		ended <- err
		return nil
	case <-n.p.hard.Done():
		return nil
	}
	l := &link{p: n.p, locator: e.Endpoint().String(), protocol: n.protocol, timeout: usualTimeout}
	err := l.run(ctx, func(ctx context.Context, c *service.Client) error {
		list, err := listServices(ctx, c)
		if err != nil {
			return err
		}
		return n.print(list)
	})
	if ctx.Err() != nil {
		return nil // it is told to end before anybody wanted to know
	}
	return err
}

// print prints a line for each service, and the one that says that all is ready.
func (n *node) print(list []found) error {
	if n.json {
		return n.p.printJSON(map[string]any{"services": list})
	}
	for _, f := range list {
		if _, err := fmt.Fprintf(n.p.out, "%-15s %s\n", cell(f.Name), service.JoinEndpoints(f.resolved.Endpoints)); err != nil {
			return local(err)
		}
	}
	_, err := io.WriteString(n.p.out, "ready\n")
	return local(err)
}

// serve waits for the end of the engine, and has it reload at a hangup.
func (n *node) serve(ctx context.Context, e *engine.Engine, hangups <-chan os.Signal, ended chan error) error {
	for {
		select {
		case <-hangups:
			n.reload(ctx, e)
		case err := <-ended:
			return local(err)
		case <-n.p.hard.Done():
			return local(killed(e, ended))
		}
	}
}

// killed ends the engine at once.
func killed(e *engine.Engine, ended <-chan error) error {
	e.Kill()
	select {
	case err := <-ended:
		return cmp.Or(err, errors.New("ended at once"))
	case <-time.After(engineKillTimeout):
		return fmt.Errorf("the runtime did not end within %v after the second signal", engineKillTimeout)
	}
}

// reload has the engine read its configuration anew.
func (n *node) reload(ctx context.Context, e *engine.Engine) {
	if err := e.Reload(ctx); err != nil {
		fmt.Fprintln(n.log, "sluice: the configuration stays as it was:", err)
	}
}

// engineConfig makes a configuration of file and flags.
func (n *node) engineConfig() (engine.Config, error) {
	if n.protocol != 0 && n.protocol != 1 {
		return engine.Config{}, fmt.Errorf("--protocol %d, want 0 or 1", n.protocol)
	}
	logger, err := n.logger()
	if err != nil {
		return engine.Config{}, err
	}
	cfg, err := n.read()
	if err != nil {
		return cfg, err
	}
	cfg.Logger = logger
	if n.config != "" {
		cfg.Reread = n.read
	}
	if cfg.Listen == "" || n.flags.Changed("listen") {
		cfg.Listen = n.listen
	}
	if n.flags.Changed("dir") {
		cfg.Dir = n.dir
	}
	if n.flags.Changed("resolve-published") {
		cfg.ResolvePublished = n.published
	}
	if n.flags.Changed("protocol") {
		cfg.V0 = n.protocol == 0
	}
	if n.flags.Changed("grace") {
		switch {
		case n.grace < 0:
			return cfg, errors.New("--grace has to be positive")
		case n.grace == 0:
			n.grace = 1 // the zero of the Config is its default
		}
		cfg.Grace = n.grace
	}
	n.protocol = 1
	if cfg.V0 {
		n.protocol = 0
	}
	cfg.Apps, err = n.sources(cfg.Apps)
	return cfg, err
}

func (n *node) logger() (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: n.logLevel}
	switch n.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(n.log, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(n.log, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q, want text or json", n.logFormat)
}

// read reads the file of --config, if there is one.
func (n *node) read() (engine.Config, error) {
	if n.config == "" {
		return engine.Config{}, nil
	}
	raw, err := readConfig(n.config)
	if errors.As(err, new(*os.PathError)) {
		return engine.Config{}, local(err)
	}
	if err != nil {
		return engine.Config{}, err
	}
	return engine.ParseSettings(n.config, raw)
}

// readConfig returns a file's YAML, which JSON is too, as JSON. JSON stays as it is, so
// that errors name its lines.
func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was read only
	raw, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(raw) > maxConfigBytes:
		return nil, fmt.Errorf("%s has more than %d MiB", path, maxConfigBytes>>20)
	case filepath.Ext(path) == ".json":
		return raw, nil
	}
	text, err := yaml.YAMLToJSONStrict(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}

// sources adds the applications of the flags to those of the file. One of the same name
// counts instead of the file's.
func (n *node) sources(list []engine.Source) ([]engine.Source, error) {
	given := make(map[string]bool)
	add := func(flag, kind, text string, source func(value string) engine.Source) error {
		name, value, ok := strings.Cut(text, "=")
		switch {
		case !ok || name == "" || strings.TrimSpace(value) == "":
			return fmt.Errorf("--%s %q, want NAME=%s", flag, text, kind)
		case given[name]:
			return fmt.Errorf("--%s %q: %s is there twice", flag, text, name)
		}
		given[name] = true
		s := source(value)
		s.Name = name
		list = slices.DeleteFunc(list, func(old engine.Source) bool { return old.Name == name })
		list = append(list, s)
		return nil
	}
	for _, a := range n.apps {
		err := add("app", "COMMAND", a, func(line string) engine.Source {
			return engine.Source{Command: engine.Shell(line), V0: n.protocol == 0}
		})
		if err != nil {
			return nil, err
		}
	}
	for _, a := range n.packages {
		if err := add("package", "PATH", a, func(path string) engine.Source { return engine.Source{Path: path} }); err != nil {
			return nil, err
		}
	}
	return list, nil
}
