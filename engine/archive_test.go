package engine_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/engine"
)

// entry is what an archive of a test has.
type entry struct {
	name, body, link string
	mode             fs.FileMode
	hard             bool
}

const manifestJSON = `{"slave": "bin/worker", "environment": {"A": "1"}, "type": "binary"}`

func tarOf(t *testing.T, list []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range list {
		h := &tar.Header{Name: e.name, Mode: int64(e.mode.Perm()), Size: int64(len(e.body)), Linkname: e.link, Typeflag: tar.TypeReg}
		switch {
		case e.hard:
			h.Typeflag = tar.TypeLink
		case e.mode.IsDir():
			h.Typeflag = tar.TypeDir
		case e.mode&fs.ModeSymlink != 0:
			h.Typeflag = tar.TypeSymlink
		case e.mode&fs.ModeNamedPipe != 0:
			h.Typeflag = tar.TypeFifo
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t *testing.T, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(p)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipOf(t *testing.T, list []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range list {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		h.SetMode(e.mode)
		if e.link != "" {
			e.body = e.link
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func writeFile(t *testing.T, p []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "package")
	if err := os.WriteFile(file, p, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// goodPackage is the same in every form, below prefix.
func goodPackage(prefix string) []entry {
	return []entry{
		{name: prefix + "manifest.json", body: manifestJSON, mode: 0o644},
		{name: prefix + "profile.json", body: `{"pool-limit": 3}`, mode: 0o644},
		{name: prefix + "bin", mode: fs.ModeDir | 0o700},
		{name: prefix + "bin/worker", body: "#!/bin/sh\n", mode: 0o755},
		{name: prefix + "data/deep/text", body: "text", mode: 0o600},
		{name: prefix + "latest", link: "data/deep", mode: fs.ModeSymlink | 0o777},
	}
}

func onDisk(t *testing.T, list []entry) string {
	t.Helper()
	dir := t.TempDir()
	for _, e := range list {
		name := filepath.Join(dir, filepath.FromSlash(e.name))
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		switch {
		case e.mode.IsDir():
			err = os.MkdirAll(name, 0o755)
		case e.link != "":
			err = os.Symlink(e.link, name)
		case err == nil:
			err = os.WriteFile(name, []byte(e.body), e.mode.Perm())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Every form of a package is unpacked to the same files.
func TestReadPackage(t *testing.T) {
	good := goodPackage("")
	forms := map[string]string{
		"directory":        onDisk(t, good),
		"tar":              writeFile(t, tarOf(t, good)),
		"tar.gz":           writeFile(t, gzipped(t, tarOf(t, good))),
		"tar.gz in a dir":  writeFile(t, gzipped(t, tarOf(t, goodPackage("app-1.0/")))),
		"tar with dot":     writeFile(t, tarOf(t, goodPackage("./"))),
		"zip":              writeFile(t, zipOf(t, good)),
		"zip in a dir":     writeFile(t, zipOf(t, goodPackage("app-1.0/"))),
		"tar of hard link": writeFile(t, tarOf(t, append(good[:6:6], entry{name: "again", link: "bin/worker", hard: true}))),
	}
	for name, file := range forms {
		t.Run(name, func(t *testing.T) {
			p, err := engine.ReadPackage(file, engine.PackageLimits{})
			if err != nil {
				t.Fatal(err)
			}
			m := p.Manifest
			if m.Slave != "bin/worker" || m.Environment["A"] != "1" || len(m.Unknown) != 1 || p.ProfileBlob == nil {
				t.Errorf("Manifest = %+v, profile %x, want what was packed", m, p.ProfileBlob)
			}
			dir := filepath.Join(t.TempDir(), "app")
			for range 2 { // the second takes the place of the first
				if err := engine.Unpack(p.ArchiveBlob, dir, engine.PackageLimits{}); err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(filepath.Join(dir, "latest", "text"))
			if string(text) != "text" || err != nil {
				t.Errorf("ReadFile() = %q, %v, want the text", text, err)
			}
			info, err := os.Stat(filepath.Join(dir, "bin", "worker"))
			if err != nil || info.Mode().Perm()&0o100 == 0 {
				t.Errorf("Stat(worker) = %v, %v, want that it can be executed", info, err)
			}
			left, err := os.ReadDir(filepath.Dir(dir))
			if len(left) != 1 || err != nil {
				t.Errorf("ReadDir() = %v, %v, want the application only", left, err)
			}
		})
	}
}

// What leaves the package, is too much, or is there twice is refused, and nothing is
// written.
func TestBadArchive(t *testing.T) {
	ok := entry{name: "manifest.json", body: `{"slave": "a"}`, mode: 0o644}
	a := entry{name: "a", body: "0123456789", mode: 0o755}
	link := func(name, to string) entry { return entry{name: name, link: to, mode: fs.ModeSymlink | 0o777} }
	cases := map[string]struct {
		list []entry
		want string
	}{
		"absolute":            {[]entry{{name: "/a", mode: 0o644}}, "outside"},
		"up":                  {[]entry{{name: "b/../../a", mode: 0o644}}, "outside"},
		"backslash":           {[]entry{{name: `..\a`, mode: 0o644}}, "outside"},
		"link absolute":       {[]entry{link("l", "/etc")}, "outside"},
		"link up":             {[]entry{link("d/l", "../../x")}, "outside"},
		"link down and up":    {[]entry{link("l", "d/../x")}, "outside"},
		"link empty":          {[]entry{link("l", "")}, "outside"},
		"below a link":        {[]entry{link("l", "d"), {name: "l/a", mode: 0o644}}, "no directory"},
		"below a file":        {[]entry{a, {name: "a/b", mode: 0o644}}, "no directory"},
		"twice":               {[]entry{a, a}, "twice"},
		"file over directory": {[]entry{{name: "a/b", mode: 0o644}, a}, "twice"},
		"fifo":                {[]entry{{name: "p", mode: fs.ModeNamedPipe | 0o644}}, "no file"},
		"hard link out":       {[]entry{{name: "h", link: "../x", hard: true}}, "no file before it"},
		"hard link to link":   {[]entry{link("l", "a"), {name: "h", link: "l", hard: true}}, "no file before it"},
		"too many files":      {[]entry{a, {name: "b/c/d/e/f/g", mode: 0o644}}, "more than 6 files"},
		"long path":           {[]entry{{name: strings.Repeat("a/", 50_000) + "a", mode: 0o644}}, "limit 4096"},
		"long target":         {[]entry{link("l", strings.Repeat("a", 5000))}, "limit 4096"},
		"deep":                {[]entry{{name: strings.Repeat("a/", 200) + "a", mode: 0o644}}, "below 200 directories"},
		"too large":           {[]entry{ok, a, {name: "b", body: strings.Repeat("x", 90), mode: 0o644}}, "more than 100 bytes"},
	}
	limits := engine.PackageLimits{MaxBytes: 100, MaxFiles: 6}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			raw := tarOf(t, c.list)
			dir := filepath.Join(t.TempDir(), "app")
			err := engine.Unpack(raw, dir, limits)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("unpack() = %v, want %q", err, c.want)
			}
			if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) > 0 {
				t.Errorf("ReadDir() = %v, want nothing", left)
			}
			if _, err := engine.ReadPackage(writeFile(t, raw), limits); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ReadPackage() = %v, want %q", err, c.want)
			}
		})
	}
}

// What is said of files, but none of it, is bounded too: a few bytes say it for ever.
func TestArchiveOfHeads(t *testing.T) {
	var head bytes.Buffer
	if err := tar.NewWriter(&head).WriteHeader(&tar.Header{Name: strings.Repeat("a", 300), Format: tar.FormatPAX}); err != nil {
		t.Fatal(err)
	}
	pax := head.Bytes()[:head.Len()-512] // without that of the file
	raw := gzipped(t, bytes.Repeat(pax, 1000))
	err := engine.Unpack(raw, filepath.Join(t.TempDir(), "app"), engine.PackageLimits{MaxBytes: 100, MaxFiles: 6})
	if want := "more than 57444 bytes"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("unpack() = %v, want %q", err, want)
	}
}

func TestBadPackage(t *testing.T) {
	cases := map[string]struct {
		list   []entry
		limits engine.PackageLimits
		want   string
	}{
		"no manifest":  {list: []entry{{name: "a", mode: 0o644}}, want: "no manifest.json"},
		"bad manifest": {list: []entry{{name: "manifest.json", body: `{"slave": 1}`, mode: 0o644}}, want: "manifest.json: slave: is 1, want a string"},
		"no slave":     {list: []entry{{name: "manifest.json", body: `{"slave": "w"}`, mode: 0o644}}, want: `slave: "w" is not in the package`},
		"slave is a directory": {
			list: []entry{{name: "manifest.json", body: `{"slave": "w"}`, mode: 0o644}, {name: "w", mode: fs.ModeDir | 0o755}, {name: "w/x", mode: 0o755}},
			want: `manifest.json: slave: "w" is a directory`,
		},
		"slave without its mode": {
			list: []entry{{name: "manifest.json", body: `{"slave": "./w"}`, mode: 0o644}, {name: "w", body: "#!/bin/sh\n", mode: 0o644}},
			want: `manifest.json: slave: "./w" cannot be executed; set its mode`,
		},
		"bad profile": {list: append(goodPackage("")[2:], entry{name: "profile.json", body: `{"pool-limit": "x"}`, mode: 0o644}), want: "profile.json: pool-limit: is no whole number"},
		"packed":      {list: goodPackage(""), limits: engine.PackageLimits{MaxPackedBytes: 100}, want: "more than 100 bytes when packed"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			for _, file := range []string{onDisk(t, c.list), writeFile(t, tarOf(t, c.list)), writeFile(t, zipOf(t, c.list))} {
				if _, err := engine.ReadPackage(file, c.limits); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("ReadPackage() = %v, want %q", err, c.want)
				}
			}
		})
	}
	for name, raw := range map[string][]byte{"empty": nil, "text": []byte("hello, this is no archive"), "cut": gzipped(t, tarOf(t, goodPackage("")))[:50]} {
		if _, err := engine.ReadPackage(writeFile(t, raw), engine.PackageLimits{}); err == nil {
			t.Errorf("ReadPackage(%s) = nil, want an error", name)
		}
	}
	if _, err := engine.ReadPackage("/nonexistent", engine.PackageLimits{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadPackage() = %v, want that it does not exist", err)
	}
}

// A slave may be a link, or behind one: where it leads is seen when it is unpacked.
func TestSlaveIsLink(t *testing.T) {
	for _, slave := range []string{"bin/link", "also/worker"} {
		list := append(goodPackage("")[2:],
			entry{name: "manifest.json", body: `{"slave": "` + slave + `"}`, mode: 0o644},
			entry{name: "bin/link", link: "worker", mode: fs.ModeSymlink | 0o777},
			entry{name: "also", link: "bin", mode: fs.ModeSymlink | 0o777})
		if _, err := engine.ReadPackage(onDisk(t, list), engine.PackageLimits{}); err != nil {
			t.Errorf("ReadPackage(slave %s) = %v, want nil", slave, err)
		}
	}
}

// Whatever the archive, the walk ends, within its limits and in the directory.
func FuzzWalk(f *testing.F) {
	t := &testing.T{}
	f.Add(tarOf(t, goodPackage("")))
	f.Add(gzipped(t, tarOf(t, goodPackage("x/"))))
	f.Add(zipOf(t, goodPackage("")))
	f.Add(tarOf(t, []entry{{name: "l", link: "..", mode: fs.ModeSymlink}, {name: "l/a", mode: 0o644}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		const maxBytes, maxFiles = 1 << 16, 64
		var sum int64
		names := 0
		err := engine.Walk(raw, engine.PackageLimits{MaxBytes: maxBytes, MaxFiles: maxFiles}, func(name string, body io.Reader) error {
			n, err := io.Copy(io.Discard, body)
			sum += n
			names++
			if !filepath.IsLocal(name) || filepath.Clean(name) != name {
				t.Errorf("%q is outside", name)
			}
			return err
		})
		if err == nil && (sum > maxBytes || names > 2*maxFiles) {
			t.Errorf("walk() took %d bytes in %d files, limits %d, %d", sum, names, maxBytes, maxFiles)
		}
	})
}
