package engine

// ParseSettings reads a configuration file: one JSON object. file is what errors, which
// are *FieldError, are to name. A field that is unknown or bad refuses the whole.
//
//	{
//	  "listen": "127.0.0.1:10053", "dir": "/var/lib/sluice", "runtime-dir": "/run/sluice",
//	  "grace": "10s", "protocol": 1, "max-apps": 256, "max-conns": 1024,
//	  "apps": {
//	    "echo": {"command": "./echo --verbose", "dir": "/src/echo", "environment": {"DEBUG": "1"}},
//	    "shop": {"path": "/srv/shop.tar.gz", "profile": "large"}
//	  },
//	  "profiles": {"large": {"pool-limit": 20}},
//	  "groups": {"echo-all": {"echo": 3, "echo-next": 1}}
//	}
//
// Relative paths are those of the directory that file is in. A command that is a string is
// a line for [Shell]; a list of strings is taken as it is.
func ParseSettings(file string, raw []byte) (Config, error) { return Config{}, nil }
