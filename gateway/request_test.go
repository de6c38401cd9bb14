package gateway_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/gateway"
	"github.com/sluice-rpc/sluice/session"
)

// wantError wants a session to have failed with [42, code] and the text in its message.
func wantError(t *testing.T, a answer, code int64, text string) {
	t.Helper()
	var se *session.Error
	if !errors.As(a.err, &se) || !se.Remote || se.Code != code || !strings.Contains(se.Message, text) {
		t.Errorf("answer = %d %q, %v, want error %d %q", a.status, a.body, a.err, code, text)
	}
}

func TestMalformedRequests(t *testing.T) {
	long := request("GET", "/", "1.1", [][2]string{{"A", "b"}}, "")
	for _, c := range []struct {
		name  string
		chunk []byte
		text  string
	}{
		{"empty", []byte{}, "value"},
		{"text", []byte("GET / HTTP/1.1\r\n"), "array"},
		{"cut short", long[:len(long)-3], "cut short"},
		{"huge count", []byte{0xdd, 0xff, 0xff, 0xff, 0xff}, "cut short"},
		{"three items", codec.Args("GET", "/", "1.1").Bytes(), "array of 3 items"},
		{"number for a method", codec.Args(1, "/", "1.1", []any{}, "").Bytes(), "want string"},
		{"number for a URI", codec.Args("GET", 1, "1.1", []any{}, "").Bytes(), "want string"},
		{"number for a body", codec.Args("GET", "/", "1.1", []any{}, 1).Bytes(), "want string"},
		{"text for headers", codec.Args("GET", "/", "1.1", "A: b", "").Bytes(), "want array"},
		{"short header", codec.Args("GET", "/", "1.1", []any{[]any{"A"}}, "").Bytes(), "header 0: array of 1"},
		{"number for a header", codec.Args("GET", "/", "1.1", []any{[]any{"A", 1}}, "").Bytes(), "want string"},
		{"surplus", append(request("GET", "/", "1.1", nil, ""), 0), "1 bytes behind the array"},
		{"packed, and surplus", append(codec.AppendRaw(nil, get("/")), 0), "1 bytes behind a string"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, d codec.Dialect) {
				p := serve(t, d, gateway.Config{}, nil)
				wantError(t, p.do(c.chunk), session.CodeMalformed, c.text)
				if s := p.adapter.Stats(); s.Malformed != 1 || s.Requests != 0 {
					t.Errorf("Stats() = %+v, want 1 malformed", s)
				}
			})
		})
	}
}

func TestNoRequest(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		p := serve(t, d, gateway.Config{RequestTimeout: time.Second}, nil)
		wantError(t, p.do(), session.CodeMalformed, "without an HTTP request")
		start := time.Now()
		wantError(t, p.read(p.open()), session.CodeDeadline, "within 1s")
		if d := time.Since(start); d != time.Second {
			t.Errorf("the session failed after %v, want 1s", d)
		}
	})
}

func TestRefusedRequests(t *testing.T) {
	cfg := gateway.Config{MaxHeaderBytes: 200, MaxHeaders: 3, MaxBodyBytes: 10}
	many := [][2]string{{"A", ""}, {"B", ""}, {"C", ""}, {"D", ""}}
	for _, c := range []struct {
		name   string
		chunk  []byte
		status int
		text   string
	}{
		{"method", request("G T", "/", "1.1", nil, ""), 400, "invalid method"},
		{"uri", get("no"), 400, "invalid URI"},
		{"empty uri", get(""), 400, "invalid URI"},
		{"blank in the path", get("/a b"), 400, "invalid URI"},
		{"blank in the query", get("/?a HTTP/1.1"), 400, "invalid URI"},
		{"blank in the authority", request("CONNECT", "a:80 b", "1.1", nil, ""), 400, "invalid URI"},
		{"version", request("GET", "/", "one", nil, ""), 505, "want a version such as 1.1"},
		{"host", request("GET", "/", "1.1", [][2]string{{"Host", "a b"}}, ""), 400, "invalid Host"},
		{"two hosts", request("GET", "/", "1.1", [][2]string{{"Host", "a"}, {"Host", "b"}}, ""), 400, "invalid Host"},
		{"header name", request("GET", "/", "1.1", [][2]string{{"a b", ""}}, ""), 400, "invalid header name"},
		{"header value", request("GET", "/", "1.1", [][2]string{{"a", "x\r\nb: c"}}, ""), 400, "invalid value"},
		{"length", request("POST", "/", "1.1", [][2]string{{"Content-Length", "+1"}}, ""), 400, "Content-Length"},
		{"two lengths", request("POST", "/", "1.1", [][2]string{{"Content-Length", "1"}, {"Content-Length", "2"}}, ""), 400, "several"},
		{"body beyond length", request("POST", "/", "1.1", [][2]string{{"Content-Length", "1"}}, "ab"), 400, "Content-Length is 1"},
		{"many headers", request("GET", "/", "1.1", many, ""), 431, "4 headers, more than 3"},
		{"long headers", request("GET", "/", "1.1", [][2]string{{"A", strings.Repeat("x", 200)}}, ""), 431, "more than 200 bytes"},
		{"long uri", get("/" + strings.Repeat("x", 200)), 431, "more than 200 bytes"},
		{"long headers, no body", request("HEAD", "/", "1.1", many, ""), 431, ""},
		{"long body", request("POST", "/", "1.1", nil, "12345678901"), 413, "longer than 10 bytes"},
		{"declared body", request("POST", "/", "1.1", [][2]string{{"Content-Length", "11"}}, ""), 413, "longer than 10 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, d codec.Dialect) {
				p := serve(t, d, cfg, handler(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") }))
				a := p.do(c.chunk)
				if a.err != nil || a.status != c.status || !strings.Contains(a.body, c.text) || (c.text == "") != (a.body == "") {
					t.Errorf("answer = %d %q, %v, want %d %q", a.status, a.body, a.err, c.status, c.text)
				}
				if s := p.adapter.Stats(); s.Refused != 1 || s.Requests != 0 {
					t.Errorf("Stats() = %+v, want 1 refused", s)
				}
			})
		})
	}
}

// What a handler sees of a request, where net/http has nothing to compare it with.
func TestRequest(t *testing.T) {
	show := handler(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprint(w, r.Proto, "|", r.Header, "|", r.ContentLength, r.TransferEncoding, "|", r.RemoteAddr, "|", string(b), err)
	})
	pairs := func(s ...string) (h [][2]string) {
		for i := 0; i < len(s); i += 2 {
			h = append(h, [2]string{s[i], s[i+1]})
		}
		return h
	}
	for _, c := range []struct {
		name  string
		chunk []byte
		want  string
	}{
		{"http/1.0", request("GET", "/", "1.0", nil, ""), "HTTP/1.0|map[]|0 []||<nil>"},
		{"long version", request("GET", "/", "HTTP/1.1", nil, ""), "HTTP/1.1|map[]|0 []||<nil>"},
		{"packed once more", codec.AppendRaw(nil, get("/")), "HTTP/1.1|map[]|0 []||<nil>"},
		{"no body", codec.Args("GET", "/", "1.1", []any{}).Bytes(), "HTTP/1.1|map[]|0 []||<nil>"},
		{"nil body", codec.Args("GET", "/", "1.1", []any{}, nil).Bytes(), "HTTP/1.1|map[]|0 []||<nil>"},
		{"more items", codec.Args("GET", "/", "1.1", []any{[]any{"a", "b", 1}}, "", 7, []any{1}).Bytes(), "HTTP/1.1|map[A:[b]]|0 []||<nil>"},
		{"hop by hop", request("GET", "/", "1.1", pairs("connection", "close, x-mine", "X-Mine", "1", "keep-alive", "1", "upgrade", "h2c", "te", "trailers", "a", "b"), ""),
			"HTTP/1.1|map[A:[b]]|0 []||<nil>"},
		{"length", request("POST", "/", "1.1", pairs("content-length", "2", "content-length", " 2"), "ab"),
			"HTTP/1.1|map[Content-Length:[2]]|2 []||ab<nil>"},
		{"short body", request("POST", "/", "1.1", pairs("content-length", "3"), "ab"),
			"HTTP/1.1|map[Content-Length:[3]]|3 []||abunexpected EOF"},
		{"nobody says", request("POST", "/", "1.1", nil, "ab"), "HTTP/1.1|map[]|-1 []||ab<nil>"},
		{"chunked", request("POST", "/", "1.1", pairs("transfer-encoding", "chunked", "content-length", "1"), "ab"),
			"HTTP/1.1|map[]|-1 [chunked]||ab<nil>"},
		{"address", request("GET", "/", "1.1", pairs("x-forwarded-for", "6.6.6.6, 10.0.0.1"), ""),
			"HTTP/1.1|map[X-Forwarded-For:[6.6.6.6, 10.0.0.1]]|0 []|10.0.0.1:0|<nil>"},
		{"address of six", request("GET", "/", "1.1", pairs("x-real-ip", "::1"), ""), "HTTP/1.1|map[X-Real-Ip:[::1]]|0 []|[::1]:0|<nil>"},
		{"address and port", request("GET", "/", "1.1", pairs("x-real-ip", "10.0.0.1:99"), ""),
			"HTTP/1.1|map[X-Real-Ip:[10.0.0.1:99]]|0 []|10.0.0.1:99|<nil>"},
		{"no address", request("GET", "/", "1.1", pairs("x-real-ip", "unknown"), ""), "HTTP/1.1|map[X-Real-Ip:[unknown]]|0 []||<nil>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, d codec.Dialect) {
				if a := serve(t, d, gateway.Config{}, show).do(c.chunk); a.err != nil || a.body != c.want {
					t.Errorf("answer = %d %q, %v, want %q", a.status, a.body, a.err, c.want)
				}
			})
		})
	}
}

func TestConnect(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, r.URL.Host, "|", r.URL.Scheme, "|", r.Host)
		}))
		if a := p.do(request("CONNECT", "a.org:443", "1.1", nil, "")); a.body != "a.org:443||a.org:443" {
			t.Errorf("answer = %d %q, want a.org:443||a.org:443", a.status, a.body)
		}
	})
}

// The body is read as the proxy streams it, and each piece is there as soon as it came.
func TestStreamedBody(t *testing.T) {
	for _, header := range [][][2]string{nil, {{"Transfer-Encoding", "chunked"}}, {{"Content-Length", "9"}}} {
		both(t, func(t *testing.T, d codec.Dialect) {
			p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) {
				b := make([]byte, 16)
				for {
					n, err := r.Body.Read(b)
					if err != nil {
						fmt.Fprint(w, err)
						return
					}
					fmt.Fprintf(w, "[%s]", b[:n])
					w.(http.Flusher).Flush()
				}
			}))
			s := p.open(request("POST", "/", "1.1", header, "one"))
			a, _ := p.head(s)
			for _, part := range []string{"one", "two", "six"} {
				if part != "one" {
					if err := s.Send(t.Context(), p.piece(part)); err != nil {
						t.Fatal(err)
					}
				}
				if got, _ := p.next(s, &a); got != "["+part+"]" {
					t.Errorf("piece = %q, want [%s]", got, part)
				}
			}
			if len(header) == 0 || header[0][1] != "9" { // else the end is known
				_ = s.Close()
			}
			if got, _ := p.next(s, &a); got != "EOF" {
				t.Errorf("piece = %q, want EOF", got)
			}
		})
	}
}

func TestStreamedBodyIsBad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, codec.V0, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			fmt.Fprint(w, string(b), "|", err)
		}))
		for _, c := range [][2]string{{"\x01", "integer"}, {"\xa1xy", "1 bytes behind"}, {"", "no value"}} {
			a := p.do(request("POST", "/", "1.1", nil, "ab"), []byte(c[0]))
			if !strings.HasPrefix(a.body, "ab|gateway: a piece of the body") {
				t.Errorf("%q: answer = %q, want an error of the piece", c[0], a.body)
			}
		}
	})
}

// A body that turns out to be too long while it is read.
func TestStreamedBodyTooLong(t *testing.T) {
	for _, answers := range []bool{false, true} {
		both(t, func(t *testing.T, d codec.Dialect) {
			p := serve(t, d, gateway.Config{MaxBodyBytes: 5}, handler(func(w http.ResponseWriter, r *http.Request) {
				b, err := io.ReadAll(r.Body)
				var tooLong *http.MaxBytesError
				if string(b) != "abcde" || !errors.As(err, &tooLong) || tooLong.Limit != 5 {
					t.Errorf("ReadAll() = %q, %v, want abcde and a limit of 5", b, err)
				}
				if answers {
					w.WriteHeader(507)
				}
			}))
			want := map[bool]int{false: 413, true: 507}[answers]
			if a := p.do(request("POST", "/", "1.1", nil, "abc"), p.piece("defgh")); a.status != want {
				t.Errorf("answer = %d %q, %v, want %d", a.status, a.body, a.err, want)
			}
		})
	}
}

// Who still reads the body when the handler has returned is woken, and holds nothing up.
func TestBodyIsReadTooLate(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		late := make(chan error, 1)
		p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) {
			go func() {
				_, err := io.ReadAll(r.Body)
				_, again := r.Body.Read(make([]byte, 1))
				late <- errors.Join(err, again)
			}()
			time.Sleep(time.Second) // it waits for more by now
			_, _ = io.WriteString(w, "done")
		}))
		if a := p.read(p.open(request("POST", "/", "1.1", nil, "ab"))); a.body != "done" || a.err != nil {
			t.Errorf("answer = %q, %v, want done", a.body, a.err)
		}
		if err := <-late; err == nil || !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Errorf("Read() = %v, want %v in the end", err, http.ErrBodyReadAfterClose)
		}
	})
}

// A handler whose client is gone may still say so; nothing of it hangs or panics.
func TestWritesAfterTheClientWasLost(t *testing.T) {
	both(t, func(t *testing.T, d codec.Dialect) {
		result := make(chan error, 1)
		p := serve(t, d, gateway.Config{}, handler(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			http.Error(w, "late", http.StatusServiceUnavailable)
			result <- http.NewResponseController(w).Flush()
		}))
		s := p.open(get("/"))
		synctest.Wait()
		_ = p.table.Channel().Close(t.Context())
		_ = s.Fail(42, 1, "gone")
		if err := <-result; err == nil {
			t.Error("Flush() to a lost client = nil, want an error")
		}
		synctest.Wait()
		if st := p.adapter.Stats(); st.Running != 0 || st.Cut != 1 {
			t.Errorf("Stats() = %+v, want 0 running, 1 cut", st)
		}
	})
}
