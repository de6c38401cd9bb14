package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	manifestFile = "manifest.json"
	profileFile  = "profile.json"
)

// Package is an application as it is stored.
type Package struct {
	// Manifest that the package has.
	Manifest Manifest
	// ManifestBlob, ArchiveBlob and ProfileBlob are the values in the collections
	// "manifests", "apps" and "profiles", each under the application's name. The archive
	// is a tar.gz without manifest.json and profile.json. ProfileBlob is nil if there is
	// no profile.
	ManifestBlob, ArchiveBlob, ProfileBlob []byte
	// UnknownProfileKeys are the keys of the profile that mean nothing to this engine, in
	// order.
	UnknownProfileKeys []string
}

// ReadPackage reads a directory or an archive: tar, tar.gz or zip, with manifest.json at
// its top, or in the only directory at its top. A file profile.json beside it is its
// profile. A bad manifest or profile is a *FieldError. A zero limits is that of its
// defaults.
func ReadPackage(file string, limits PackageLimits) (*Package, error) {
	limits.setDefaults()
	b := newBuilder(file, limits)
	err := b.read()
	if err == nil {
		err = b.finish()
	}
	var fe *FieldError
	if err != nil && !errors.As(err, &fe) {
		return nil, fmt.Errorf("engine: package %s: %w", file, err)
	}
	if err != nil {
		return nil, err
	}
	return &b.pkg, nil
}

// builder makes a Package from a directory or an archive.
type builder struct {
	file   string
	limits PackageLimits
	prefix string // the only directory at the top, with a slash; or empty
	packed limitedBuffer
	gzip   *gzip.Writer
	tar    *tar.Writer
	modes  map[string]fs.FileMode // of what is in the package
	pkg    Package
}

func newBuilder(file string, limits PackageLimits) *builder {
	b := &builder{file: file, limits: limits, packed: limitedBuffer{max: limits.MaxPackedBytes}, modes: make(map[string]fs.FileMode)}
	b.gzip = gzip.NewWriter(&b.packed)
	b.tar = tar.NewWriter(b.gzip)
	return b
}

func (b *builder) read() error {
	info, err := os.Stat(b.file)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return b.readDir()
	}
	f, err := os.Open(b.file)
	if err != nil {
		return err
	}
	defer f.Close()
	if b.prefix, err = top(f, info.Size(), b.limits); err != nil {
		return err
	}
	return walk(f, info.Size(), b.limits, b.add)
}

// top returns the only directory at the top of an archive, with a slash, or nothing if
// manifest.json is there.
func top(archive io.ReaderAt, size int64, limits PackageLimits) (string, error) {
	var found, only string
	tops := make(map[string]bool)
	err := walk(archive, size, limits, func(it item) error {
		if it.name == manifestFile {
			found = it.name
		}
		first, _, below := strings.Cut(it.name, "/")
		if tops[first] = true; below || it.mode.IsDir() {
			only = first + "/"
		}
		return nil
	})
	if err != nil || found != "" || len(tops) != 1 {
		return "", err
	}
	return only, nil
}

// readDir adds what is in a directory, by the same rules as for an archive.
func (b *builder) readDir() error {
	root, err := os.OpenRoot(b.file)
	if err != nil {
		return err
	}
	defer root.Close()
	w := &walker{limits: b.limits, f: b.add, seen: make(map[string]fs.FileMode)}
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		it := item{name: name, mode: info.Mode()}
		switch {
		case it.mode&fs.ModeSymlink != 0:
			if it.link, err = root.Readlink(filepath.FromSlash(name)); err != nil {
				return err
			}
			it.link = filepath.ToSlash(it.link)
		case it.mode.IsRegular():
			f, err := root.Open(filepath.FromSlash(name))
			if err != nil {
				return err
			}
			defer f.Close()
			it.body = f
		}
		return w.item(it)
	})
}

// add puts an item into the package.
func (b *builder) add(it item) error {
	name := strings.TrimPrefix(it.name, b.prefix)
	switch name {
	case strings.TrimSuffix(b.prefix, "/"):
		return nil
	case manifestFile, profileFile:
		return b.describe(name, it)
	}
	b.modes[name] = it.mode
	h := &tar.Header{Name: name, Mode: int64(it.mode.Perm()), Format: tar.FormatPAX}
	switch {
	case it.hard:
		h.Typeflag, h.Linkname = tar.TypeLink, strings.TrimPrefix(it.link, b.prefix)
	case it.mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case it.mode&fs.ModeSymlink != 0:
		if !staysInside(name, it.link) { // without the prefix
			return fmt.Errorf("%q is a link to %q, outside of the package", it.name, it.link)
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, it.link
	default:
		return b.addFile(h, it)
	}
	return b.tar.WriteHeader(h)
}

// addFile adds a file of unknown size. A header in front must tell it, so the file is
// held; it is no larger than all files together may be.
func (b *builder) addFile(h *tar.Header, it item) error {
	body, err := io.ReadAll(it.body)
	if err != nil {
		return fmt.Errorf("%q: %w", it.name, err)
	}
	h.Typeflag, h.Size = tar.TypeReg, int64(len(body))
	if err := b.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err = b.tar.Write(body)
	return err
}

// describe takes manifest.json and profile.json.
func (b *builder) describe(name string, it item) error {
	if !it.mode.IsRegular() || it.hard {
		return fmt.Errorf("%q is no plain file", it.name)
	}
	raw, err := io.ReadAll(io.LimitReader(it.body, maxManifestBytes+1))
	if err != nil {
		return fmt.Errorf("%q: %w", it.name, err)
	}
	file := path.Join(filepath.ToSlash(b.file), it.name)
	if name == manifestFile {
		if b.pkg.Manifest, err = ParseManifest(file, raw); err == nil {
			b.pkg.ManifestBlob, err = packJSON(raw)
		}
		return err
	}
	if _, b.pkg.UnknownProfileKeys, err = parseProfile(file, raw); err != nil {
		return err
	}
	b.pkg.ProfileBlob, err = packJSON(raw)
	return err
}

// finish completes the archive and checks that all is there.
func (b *builder) finish() error {
	if b.pkg.ManifestBlob == nil {
		return fmt.Errorf("there is no %s at its top, e.g. {\"slave\": \"worker.py\"}", manifestFile)
	}
	if err := b.checkSlave(); err != nil {
		return &FieldError{path.Join(filepath.ToSlash(b.file), b.prefix, manifestFile), "slave", err}
	}
	if err := errors.Join(b.tar.Close(), b.gzip.Close()); err != nil {
		return err
	}
	b.pkg.ArchiveBlob = b.packed.Bytes()
	return nil
}

// checkSlave tells whether the program of the workers is in the package and may be executed,
// as far as that can be told here: where a link leads is seen when it is unpacked.
func (b *builder) checkSlave() error {
	slave := b.pkg.Manifest.Slave
	if filepath.IsAbs(slave) {
		return nil
	}
	switch mode, ok := b.modes[path.Clean(slave)]; {
	case !ok && b.throughLink(path.Clean(slave)):
		return nil
	case !ok:
		return fmt.Errorf("%q is not in the package", slave)
	case mode.IsDir():
		return fmt.Errorf("%q is a directory; name the program in it", slave)
	case mode.IsRegular() && mode&0o111 == 0:
		return fmt.Errorf("%q cannot be executed; set its mode before packing: chmod +x", slave)
	}
	return nil
}

// throughLink reports whether a path leads through a link in the package.
func (b *builder) throughLink(name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if b.modes[dir]&fs.ModeSymlink != 0 {
			return true
		}
	}
	return false
}

// limitedBuffer is a buffer with an end.
type limitedBuffer struct {
	bytes.Buffer
	max int64
}

// Write is for the archive.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	if int64(b.Len()+len(p)) > b.max {
		return 0, fmt.Errorf("more than %d bytes when packed: PackageLimits.MaxPackedBytes", b.max)
	}
	return b.Buffer.Write(p)
}
