package channel

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// certificate makes one that signs itself.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"sluice"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// overTLS is m with TLS on its streams.
func overTLS(t testing.TB, m medium) medium {
	server := &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS13}
	client := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	join := m.join
	m.join = func(t testing.TB) (a, b net.Conn) {
		a, b = join(t)
		return tls.Client(a, client), tls.Server(b, server)
	}
	return m
}

// TestTLS: a channel on a TLS connection is a channel.
func TestTLS(t *testing.T) {
	for _, m := range []medium{media[0], media[1], media[4]} {
		t.Run(m.name, func(t *testing.T) {
			m.run(t, func(t *testing.T, m medium) {
				a, b := newSide(t, m, Config{HighWaterBytes: -1}), newSide(t, m, Config{HighWaterBytes: -1})
				came := a.inOrder()
				b.onMessage = func(m *codec.Message, _ []codec.Header) {
					if err := b.Send(&codec.Frame{Kind: codec.KindChunk, Payload: m.Payload}); err != nil {
						t.Errorf("Send() = %v", err)
					}
				}
				overTLS(t, m).connect(t, a, b)
				const n = 50
				for i := range n {
					if err := a.SendOffLoop(t.Context(), chunk(1, i, i*1000)); err != nil {
						t.Fatal(err)
					}
				}
				eventually(t, "all echoes", func() bool { return came() == n })
				if err := a.Close(context.Background()); err != nil {
					t.Errorf("Close() = %v", err)
				}
				b.wantOver(CodeEOF)
				b.end()
			})
		})
	}
}

// TestTLSClose: TLS writes when it closes. A peer that does not read keeps neither Close
// nor the loop.
func TestTLSClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := overTLS(t, media[4].scripted(t, "a>b capacity=100"))
		s := newSide(t, m, Config{DrainTimeout: time.Second})
		x, y := m.join(t)
		handshake := make(chan error)
		go func() { handshake <- y.(*tls.Conn).Handshake() }()
		if err := x.(*tls.Conn).Handshake(); err != nil {
			t.Fatal(err)
		}
		s.open(x)
		if err := <-handshake; err != nil {
			t.Fatal(err)
		}
		under := x.(*tls.Conn).NetConn().(*End)
		for full := false; !full; { // to the last byte, so that the good-bye finds no room
			n, err := under.tryWrite(make([]byte, 1))
			if err != nil {
				t.Fatal(err)
			}
			full = n == 0
		}
		start := time.Now()
		closed := make(chan error, 1)
		go func() { closed <- s.Close(t.Context()) }()
		synctest.Wait()
		s.do(func() {}) // the loop is not held up
		if took := time.Since(start); took != 0 {
			t.Errorf("the loop stood for %v", took)
		}
		<-closed
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("Close() took %v", took)
		}
		_ = y.Close()
	})
}
