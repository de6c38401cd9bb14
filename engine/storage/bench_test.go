package storage

import (
	"fmt"
	"sync/atomic"
	"testing"
)

func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		blob := make([]byte, size)
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := openAt(b, b.TempDir(), Config{})
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := s.Write(bg, "c", fmt.Sprint(i%100), blob, allTags); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%dKiB/32 at once", size>>10), func(b *testing.B) {
			s := openAt(b, b.TempDir(), Config{})
			b.SetBytes(int64(size))
			b.SetParallelism(16)
			var n atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.Write(bg, "c", fmt.Sprint(n.Add(1)%100), blob, allTags); err != nil {
						b.Error(err)
					}
				}
			})
			st := s.Stats()
			b.ReportMetric(float64(st.Writes)/float64(st.DirSyncs), "writes/dirsync")
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20, 16 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := openAt(b, b.TempDir(), Config{})
			if err := s.Write(bg, "c", "k", make([]byte, size), allTags); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Read(bg, "c", "k"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("missing", func(b *testing.B) {
		s := openAt(b, b.TempDir(), Config{})
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Read(bg, "c", "k"); err == nil {
				b.Fatal("found")
			}
		}
	})
}

// BenchmarkFind has 100,000 keys; every tenth has the tag "ten" and so on.
func BenchmarkFind(b *testing.B) {
	s := openAt(b, b.TempDir(), Config{})
	for i := range 100_000 {
		tags := []string{"all"}
		for n, tag := range map[int]string{10: "ten", 1000: "thousand", 100_000: "one"} {
			if i%n == 0 {
				tags = append(tags, tag)
			}
		}
		s.index.put(newRecord("c", fmt.Sprintf("key-%010d", i), tags))
	}
	for _, tags := range [][]string{{"one", "all"}, {"thousand", "all"}, {"all", "ten"}, {"all"}} {
		b.Run(tags[0], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if keys, err := s.Find(bg, "c", tags); err != nil || len(keys) == 0 {
					b.Fatal(err)
				}
			}
		})
	}
}

// lazyDir is a directory that syncs nothing, to fill it fast.
type lazyDir struct{ *osDir }

type lazyFile struct{ file }

func (lazyFile) Sync() error  { return nil }
func (d lazyDir) Sync() error { return nil }
func (d lazyDir) Create(name string) (file, error) {
	f, err := d.osDir.Create(name)
	return lazyFile{f}, err
}

func BenchmarkOpen(b *testing.B) {
	for _, keys := range []int{100, 10_000} {
		b.Run(fmt.Sprint(keys, " keys"), func(b *testing.B) {
			path := b.TempDir()
			dir, err := openDir(path)
			if err != nil {
				b.Fatal(err)
			}
			s, err := open(path, lazyDir{dir}, quiet)
			for i := 0; i < keys && err == nil; i++ {
				err = s.Write(bg, "c", fmt.Sprintf("key-%010d", i), make([]byte, 1000), allTags[:2])
			}
			if err != nil {
				b.Fatal(err)
			}
			for err = s.Close(); b.Loop() && err == nil; {
				if s, err = Open(path, quiet); err == nil {
					err = s.Close()
				}
			}
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}
