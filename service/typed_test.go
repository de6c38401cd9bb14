package service_test

import (
	"slices"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// TestInvoke calls with values of several types; what does not fit its type is an error.
func TestInvoke(t *testing.T) {
	dialects(t, func(t *testing.T, v0 bool) {
		c := newCloud(t, v0)
		c.add("a", echo(v0))
		s := c.client(nil).Service("echo")
		ctx := t.Context()
		if got, err := service.Invoke[string](ctx, s, "echo", "x"); got != "x" || err != nil {
			t.Errorf("Invoke(string) = %q, %v", got, err)
		}
		if got, err := service.Invoke[int8](ctx, s, "echo", uint64(100)); got != 100 || err != nil {
			t.Errorf("Invoke(int8) = %d, %v", got, err)
		}
		if got, err := service.Invoke[[]string](ctx, s, "echo", []string{"a", "b"}); !slices.Equal(got, []string{"a", "b"}) || err != nil {
			t.Errorf("Invoke([]string) = %q, %v", got, err)
		}
		if got, err := service.Invoke[point](ctx, s, "echo", point{1, 2}); got != (point{1, 2}) || err != nil {
			t.Errorf("Invoke(point) = %v, %v", got, err)
		}
		if _, err := service.Invoke[service.None](ctx, s, "void", service.None{}); err != nil {
			t.Errorf("Invoke(None) = %v", err)
		}
		_, err := service.Invoke[int8](ctx, s, "echo", 1000)
		wantError[*service.ReplyError](t, err)
		_, err = service.Invoke[string](ctx, s, "void", service.None{})
		wantError[*service.ReplyError](t, err)
		_, err = service.InvokeArgs[int](ctx, s, "echo", codec.Args("x"))
		wantError[*service.ReplyError](t, err)
		if _, err := service.Invoke[string](ctx, s, "echo", struct{}{}); err == nil {
			t.Error("Invoke() of what cannot be encoded gave no error")
		}
		_, err = service.Invoke[string](ctx, s, "fail", service.None{})
		wantError[*session.Error](t, err)
		if v0 {
			return
		}
		if got, err := service.InvokeArgs[pair](ctx, s, "echo", codec.Args(1, 2)); got != (pair{point{1, 2}}) || err != nil {
			t.Errorf("InvokeArgs(pair) = %v, %v", got, err)
		}
	})
}
