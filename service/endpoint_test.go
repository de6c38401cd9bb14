package service_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/service"
)

func TestParseEndpoint(t *testing.T) {
	for text, want := range map[string]service.Endpoint{
		"localhost:10053":       {"localhost", 10053},
		"127.0.0.1:1":           {"127.0.0.1", 1},
		"a_b-c.example.com.:80": {"a_b-c.example.com.", 80},
		"[::1]:65535":           {"::1", 65535},
		"[fe80::1%eth0.1]:80":   {"fe80::1%eth0.1", 80},
		"[::ffff:10.0.0.1]:80":  {"::ffff:10.0.0.1", 80},
	} {
		got, err := service.ParseEndpoint(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("ParseEndpoint(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                      "no port",
		"localhost":             "no port",
		"10053":                 "no port",
		":80":                   "no host",
		"[]:80":                 "no v6 address in brackets",
		"[10.0.0.1]:80":         "no v6 address in brackets",
		"::1:80":                "no v6 address in brackets",
		"[::1]":                 "no v6 address in brackets",
		"a:b:80":                "no v6 address in brackets",
		"[a:b]:80":              "the host is neither",
		"[::1%]:80":             "the host is neither",
		"[::1%a b]:80":          "the host is neither",
		"[::1]x:80":             "no v6 address in brackets",
		"host:":                 "the port is no number of 1..65535",
		"host:0":                "the port is no number of 1..65535",
		"host:65536":            "the port is no number of 1..65535",
		"host:+80":              "the port is no number of 1..65535",
		"host:http":             "the port is no number of 1..65535",
		"host: 80":              "the port is no number of 1..65535",
		"ho st:80":              "the host is neither a name nor an address",
		"ho/st:80":              "the host is neither a name nor an address",
		"h\x00st:80":            "the host is neither a name nor an address",
		"user@host:80":          "the host is neither a name nor an address",
		"h\u00f6st:80":          "the host is neither a name nor an address",
		"a%eth0:80":             "the host is neither a name nor an address",
		"/run/cocaine/e.1:80":   "the host is neither a name nor an address",
		"http://host:80":        "no v6 address in brackets",
		longHost(256) + ":80":   "a host of more than 255 bytes",
		"[" + longHost(9) + "]": "no port",
	} {
		if got, err := service.ParseEndpoint(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseEndpoint(%q) = %v, %v, want %s", text, got, err, want)
		}
	}
}

func longHost(n int) string { return strings.Repeat("h", n) }

func TestParseLocators(t *testing.T) {
	for text, want := range map[string][]service.Endpoint{
		"":                                    {{"localhost", 10053}},
		" , ":                                 {{"localhost", 10053}},
		"10153":                               {{"localhost", 10153}}, // 0.10
		"node1.example.com:10053":             {{"node1.example.com", 10053}},
		"::1:10053":                           {{"::1", 10053}}, // 0.11 with a v6 address
		"2001:db8::7:10054":                   {{"2001:db8::7", 10054}},
		"10.0.0.1:10053,[fe80::1%eth0]:10054": {{"10.0.0.1", 10053}, {"fe80::1%eth0", 10054}}, // 0.12
		" a:1 , b:2 ,":                        {{"a", 1}, {"b", 2}},
		"host":                                {{"host", 10053}},
		"10.0.0.1":                            {{"10.0.0.1", 10053}},
		"[::1]":                               {{"::1", 10053}},
		"::1":                                 {{"::1", 10053}},
		"2001:db8::1":                         {{"2001:db8::1", 10053}},
		"1:2:3:4:5:6:7:8":                     {{"1:2:3:4:5:6:7:8", 10053}},
		"a:1,a:1":                             {{"a", 1}, {"a", 1}},
		strings.Repeat("a,", service.MaxEndpoints): slices.Repeat([]service.Endpoint{{"a", 10053}}, service.MaxEndpoints),
	} {
		got, err := service.ParseLocators(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("ParseLocators(%q) = %v, %v, want %v", text, got, err, want)
		}
		joined := service.JoinEndpoints(got)
		if again, err := service.ParseLocators(joined); err != nil || !slices.Equal(again, want) {
			t.Errorf("ParseLocators(%q) = %v, %v, want %v", joined, again, err, want)
		}
	}
	for text, want := range map[string]string{
		"a:1,b:x": `locator "b:x": the port is no number`,
		"[host]":  `locator "[host]": no v6 address in brackets`,
		"[::1":    `locator "[::1": no v6 address in brackets`,
		"a b":     `locator "a b": the host is neither`,
		"x::y":    `locator "x::y": the host is neither`,
		":1":      `locator ":1": no host`,
		"0":       `locator "0": the port is no number`,
		"65536":   `locator "65536": the port is no number`,
		"[]":      `locator "[]": no v6 address`,
		"[":       `locator "[": the host is neither`,
		strings.Repeat("a,", service.MaxEndpoints+1): "more than 256 locators",
	} {
		if got, err := service.ParseLocators(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseLocators(%.20q) = %v, %v, want %s", text, got, err, want)
		}
	}
}

func TestEndpointWire(t *testing.T) {
	for _, e := range []service.Endpoint{{"localhost", 80}, {"::1", 65535}, {"10.0.0.1", 0}} {
		raw := service.AppendEndpoint(nil, e)
		if got, err := service.DecodeEndpoint(raw); err != nil || got != e {
			t.Errorf("DecodeEndpoint(%x) = %v, %v, want %v", raw, got, err, e)
		}
		raw = service.AppendEndpoints(nil, []service.Endpoint{e, e})
		if got, err := service.DecodeEndpoints(raw); err != nil || !slices.Equal(got, []service.Endpoint{e, e}) {
			t.Errorf("DecodeEndpoints(%x) = %v, %v, want %v twice", raw, got, err, e)
		}
	}
	if got, err := service.DecodeEndpoint(arr([]byte("\xd9\x01h"), []byte("\xd2\x00\x00\x00\x50"), null)); err != nil || got.Port != 80 {
		t.Errorf("DecodeEndpoint() = %v, %v, want h:80 whatever the form and behind it", got, err)
	}
	for _, row := range []struct {
		raw  []byte
		want string
	}{
		{nil, "service: endpoint: value at byte 0: cut short"},
		{str("host:80"), "string, want array"},
		{arr(str("h")), "endpoint of 1 items, want 2"},
		{arr(num(80), str("h")), "integer, want string"},
		{arr(str("h"), num(65536)), "port 65536, limit 65535"},
		{arr(str("h"), []byte{0xff}), "negative integer"},
		{arr(str(""), num(80)), "no host"},
		{arr(str("a b"), num(80)), "neither a name nor an address"},
		{arr(str(longHost(256)), num(80)), "a host of more than 255 bytes"},
		{append(arr(str("h"), num(80)), 0x90), "1 bytes behind the value"},
	} {
		if got, err := service.DecodeEndpoint(row.raw); err == nil || !strings.Contains(err.Error(), row.want) || got != (service.Endpoint{}) {
			t.Errorf("DecodeEndpoint(%x) = %v, %v, want %s", row.raw, got, err, row.want)
		}
	}
	many := service.AppendEndpoints(nil, make([]service.Endpoint, service.MaxEndpoints+1))
	if _, err := service.DecodeEndpoints(many); err == nil || !strings.Contains(err.Error(), "257 endpoints, limit 256") {
		t.Errorf("DecodeEndpoints(257) = %v", err)
	}
}
