package main

import (
	"encoding/hex"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
)

func TestArguments(t *testing.T) {
	for _, c := range []struct {
		word string
		raw  bool
		want string // the one argument, in hex
	}{
		{"hello", false, "a568656c6c6f"},
		{"", false, "a0"},
		{"42", false, "2a"},
		{"42", true, "a23432"},
		{"-1", false, "ff"},
		{"18446744073709551615", false, "cfffffffffffffffff"},
		{"18446744073709551616", false, "cb43f0000000000000"},
		{"1.5", false, "cb3ff8000000000000"},
		{"-0", false, "cb8000000000000000"},
		{"true", false, "c3"},
		{"null", false, "c0"},
		{`"42"`, false, "a23432"},
		{`[1,"a",null]`, false, "9301a161c0"},
		{`{"b":2,"a":{"c":[false]}}`, false, "82a16181a16391c2a16202"},
		{"2026-11-21", false, "aa323032362d31312d3231"}, // begins with a number, is none
		{"1 2", false, "a3312032"},
		{"007", false, "a3303037"},
		{"[1", false, "a25b31"},
		{"127.0.0.1:10053", false, "af3132372e302e302e313a3130303533"},
	} {
		args, err := arguments([]string{c.word}, c.raw)
		if got := hex.EncodeToString(args.Bytes()); err != nil || got != "91"+c.want {
			t.Errorf("arguments(%q, %v) = %s, %v, want 91%s", c.word, c.raw, got, err, c.want)
		}
	}
	if _, err := arguments([]string{"1e999"}, false); err == nil {
		t.Error("arguments(1e999) is no error")
	}
}

func TestPrinting(t *testing.T) {
	for _, c := range []struct {
		args       codec.Arguments
		text, json string
	}{
		{codec.Args(), "", "null"},
		{codec.Args("a"), "a\n", `"a"`},
		{codec.Args("a\n"), "a\n", `"a\n"`},
		{codec.Args([]byte{0xff, 0}), "\xff\x00\n", `{"hex":"ff00"}`},
		{codec.Args(1, true, []string{"x"}), "1\ntrue\n[\"x\"]\n", `[1,true,["x"]]`},
		{codec.Args([]string{"k"}), "[\"k\"]\n", `["k"]`},
	} {
		if got := string(appendText(nil, c.args.Bytes())); got != c.text {
			t.Errorf("appendText(%x) = %q, want %q", c.args.Bytes(), got, c.text)
		}
		if got := string(appendJSON(nil, c.args.Bytes())); got != c.json {
			t.Errorf("appendJSON(%x) = %s, want %s", c.args.Bytes(), got, c.json)
		}
	}
}

// What a user writes as JSON is what comes back as JSON.
func FuzzPacked(f *testing.F) {
	for _, s := range []string{`1`, `-1.25`, `"a"`, `-0`, `-0.0`, `[1,{"a":null}]`, `{"b":[],"a":{}}`, `1e999`, `[`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, word string) {
		v, ok := parseJSON(word)
		if !ok {
			return
		}
		b, err := appendPacked(nil, v)
		if err != nil {
			return
		}
		back := unpackValue(b)
		again, err := appendPacked(nil, back)
		if err != nil {
			t.Fatalf("%s became %s: %v", word, codec.AppendJSONValue(nil, b), err)
		}
		if !reflect.DeepEqual(unpackValue(again), back) {
			text, _ := json.Marshal(back)
			t.Errorf("%s became %s", word, text)
		}
	})
}
