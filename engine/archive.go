package engine

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// PackageLimits bounds the package of an application. In each field zero means the
// default and a negative number means no limit.
type PackageLimits struct {
	// MaxPackedBytes bounds the archive in the storage. If zero, 64 MiB. What is larger than
	// 16 MiB no client can send to the storage service; Source.Path and Deploy can.
	MaxPackedBytes int64
	// MaxBytes bounds the files together. If zero, 512 MiB.
	MaxBytes int64
	// MaxFiles bounds files, directories and links. If zero, 20,000.
	MaxFiles int
}

const (
	maxNameBytes = 4 << 10 // of a path in an archive, and of a link's target
	maxDepth     = 128     // directories above a file
	maxHeadBytes = 8 << 10 // on average, of what tar.gz says of one file
)

func (l *PackageLimits) setDefaults() {
	orBytes(&l.MaxPackedBytes, 64<<20)
	orBytes(&l.MaxBytes, 512<<20)
	orCount(&l.MaxFiles, 20_000)
}

func orBytes(p *int64, def int64) {
	switch {
	case *p == 0:
		*p = def
	case *p < 0:
		*p = math.MaxInt64 - 1
	}
}

// stream bounds what a tar.gz is unpacked to, with all that is said of its files.
func (l *PackageLimits) stream() int64 {
	if int64(l.MaxFiles) > (math.MaxInt64-l.MaxBytes)/maxHeadBytes-1 {
		return math.MaxInt64 - 1
	}
	return l.MaxBytes + int64(l.MaxFiles+1)*maxHeadBytes
}

// item is one entry of an archive.
type item struct {
	name string      // with slashes, local
	mode fs.FileMode // 0755 or 0644, and ModeDir or ModeSymlink
	link string      // of a symlink
	hard bool        // a second name of link, which came before
	body io.Reader   // of a file; until the next item
}

// walk calls f for the items of an archive, and checks names, sizes and links: nothing in
// it is outside, points outside, or is there twice. Its directory is not an item.
func walk(archive io.ReaderAt, size int64, limits PackageLimits, f func(item) error) error {
	w := &walker{limits: limits, f: f, seen: make(map[string]fs.FileMode)}
	var magic [4]byte
	n, err := archive.ReadAt(magic[:], 0)
	if err != nil && err != io.EOF {
		return err
	}
	r := io.NewSectionReader(archive, 0, size)
	switch {
	case n > 1 && magic[0] == 0x1f && magic[1] == 0x8b:
		z, err := gzip.NewReader(r)
		if err != nil {
			return fmt.Errorf("gzip: %w", err)
		}
		return w.tar(&counted{r: z, read: new(int64), limit: limits.stream()})
	case string(magic[:n]) == "PK\x03\x04":
		return w.zip(archive, size)
	}
	return w.tar(r)
}

type walker struct {
	limits PackageLimits
	f      func(item) error
	seen   map[string]fs.FileMode
	bytes  int64
	heads  int // of items, directories that are there twice among them
}

// head counts one, whatever it is.
func (w *walker) head() error {
	if w.heads++; w.heads/2 > w.limits.MaxFiles {
		return fmt.Errorf("more than %d files", w.limits.MaxFiles)
	}
	return nil
}

func (w *walker) tar(r io.Reader) error {
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("neither tar, tar.gz nor zip, or damaged: %w", err)
		}
		it := item{name: h.Name, mode: h.FileInfo().Mode(), link: h.Linkname, hard: h.Typeflag == tar.TypeLink, body: t}
		if err := w.head(); err != nil {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := w.item(it); err != nil {
			return err
		}
	}
}

func (w *walker) zip(archive io.ReaderAt, size int64) error {
	z, err := zip.NewReader(archive, size)
	if err != nil {
		return fmt.Errorf("zip: %w", err)
	}
	for _, file := range z.File {
		if err := w.head(); err != nil {
			return err
		}
		if err := w.zipped(file); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) zipped(file *zip.File) error {
	body, err := file.Open()
	if err != nil {
		return fmt.Errorf("zip: %q: %w", file.Name, err)
	}
	defer body.Close()
	it := item{name: file.Name, mode: file.Mode(), body: body}
	if it.mode&fs.ModeSymlink != 0 {
		target, err := io.ReadAll(io.LimitReader(body, 4<<10))
		if err != nil {
			return fmt.Errorf("zip: %q: %w", file.Name, err)
		}
		it.link = string(target)
	}
	return w.item(it)
}

// item checks one, and gives it to f.
func (w *walker) item(it item) error {
	if n := max(len(it.name), len(it.link)); n > maxNameBytes {
		return fmt.Errorf("%.64q: a path of %d bytes, limit %d", it.name, n, maxNameBytes)
	}
	name, ok := clean(it.name)
	if !ok {
		return fmt.Errorf("%q is outside of the package", it.name)
	}
	if name == "." {
		return nil
	}
	it.name = name
	if err := w.place(it); err != nil {
		return err
	}
	switch {
	case it.hard:
		if it.link, ok = clean(it.link); !ok || !w.seen[it.link].IsRegular() || w.seen[it.link] == 0 {
			return fmt.Errorf("%q is a link to what is no file before it in the package", name)
		}
		it.mode = w.seen[it.link]
	case it.mode&fs.ModeSymlink != 0:
		if !staysInside(name, it.link) {
			return fmt.Errorf("%q is a link to %q, outside of the package", name, it.link)
		}
		it.mode = fs.ModeSymlink
	case it.mode.IsDir():
		it.mode = fs.ModeDir | 0o755
	case it.mode.IsRegular():
		it.mode = plain(it.mode)
	default:
		return fmt.Errorf("%q is no file, directory or link", name)
	}
	w.seen[name] = it.mode
	it.body = &counted{r: it.body, read: &w.bytes, limit: w.limits.MaxBytes}
	return w.f(it)
}

// place checks that an item may be where it wants to be.
func (w *walker) place(it item) error {
	if was, twice := w.seen[it.name]; twice && (!was.IsDir() || !it.mode.IsDir()) {
		return fmt.Errorf("%q is there twice", it.name)
	}
	if n := strings.Count(it.name, "/"); n > maxDepth {
		return fmt.Errorf("%.64q is below %d directories, limit %d", it.name, n, maxDepth)
	}
	for dir := path.Dir(it.name); dir != "."; dir = path.Dir(dir) {
		mode, ok := w.seen[dir]
		if ok && !mode.IsDir() {
			return fmt.Errorf("%q is below %q, which is no directory", it.name, dir)
		}
		if ok { // and so are those above it
			break
		}
		w.seen[dir] = fs.ModeDir | 0o755 // implied; it counts, too
	}
	if _, there := w.seen[it.name]; !there && len(w.seen) >= w.limits.MaxFiles {
		return fmt.Errorf("more than %d files", w.limits.MaxFiles)
	}
	return nil
}

// counted counts what is read, up to a limit that several may share.
type counted struct {
	r     io.Reader
	read  *int64
	limit int64
}

func (c *counted) Read(p []byte) (int, error) {
	left := c.limit - *c.read
	n, err := c.r.Read(p[:min(int64(len(p)), left+1)])
	if *c.read += int64(n); int64(n) > left {
		return n, fmt.Errorf("more than %d bytes", c.limit)
	}
	return n, err
}

// clean returns a name in an archive as a local path with slashes, or false.
func clean(name string) (string, bool) {
	if name == "" || strings.ContainsAny(name, "\x00\\") || strings.HasPrefix(name, "/") {
		return "", false
	}
	name = path.Clean(name)
	return name, filepath.IsLocal(filepath.FromSlash(name))
}

// staysInside reports whether a symlink leads to somewhere in the package, if all others
// do: up only at its beginning, and not too far.
func staysInside(name, target string) bool {
	if target == "" || strings.ContainsAny(target, "\x00\\") || path.IsAbs(target) {
		return false
	}
	down := false
	for part := range strings.SplitSeq(target, "/") {
		if part == ".." && down {
			return false
		}
		down = down || part != ".." && part != "." && part != ""
	}
	return filepath.IsLocal(filepath.FromSlash(path.Join(path.Dir(name), target)))
}

// plain has a file be for everyone to read, and to execute if somebody may.
func plain(mode fs.FileMode) fs.FileMode {
	if mode&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

// unpack makes the directory dir of an archive's files, in place of what was there. If it
// fails, that is still there.
func unpack(archive io.ReaderAt, size int64, dir string, limits PackageLimits) error {
	made, err := os.MkdirTemp(filepath.Dir(dir), ".unpack-")
	if err != nil {
		return err
	}
	err = unpackInto(archive, size, made, limits)
	if err == nil {
		err = replaceDir(dir, made)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(made))
	}
	return nil
}

func unpackInto(archive io.ReaderAt, size int64, dir string, limits PackageLimits) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Chmod(".", 0o755); err != nil {
		return err
	}
	return walk(archive, size, limits, func(it item) error { return write(root, it) })
}

// write makes one item below root, which no path and no link can leave.
func write(root *os.Root, it item) error {
	name := filepath.FromSlash(it.name)
	if dir := filepath.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	switch {
	case it.hard:
		return root.Link(filepath.FromSlash(it.link), name)
	case it.mode.IsDir():
		return root.MkdirAll(name, 0o755)
	case it.mode&fs.ModeSymlink != 0:
		return root.Symlink(filepath.FromSlash(it.link), name)
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, it.mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, it.body); err != nil {
		_ = f.Close()
		return fmt.Errorf("%q: %w", it.name, err)
	}
	return f.Close()
}

// replaceDir renames made to dir, and removes what was there.
func replaceDir(dir, made string) error {
	old := made + "-old"
	if err := os.Rename(dir, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(made, dir); err != nil {
		return errors.Join(err, os.Rename(old, dir))
	}
	return os.RemoveAll(old)
}
