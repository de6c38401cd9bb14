package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
)

// table prints rows under a head, in columns.
func (p *program) table(head []string, rows [][]string) error {
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	line := func(cells []string) {
		fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t")) // Flush has the error
	}
	line(head)
	for _, row := range rows {
		for i := range row {
			row[i] = cell(row[i])
		}
		line(row)
	}
	return local(w.Flush())
}

// cell returns what a peer said as one word of a line: nothing in it may move a terminal's
// cursor or break a table.
func cell(text string) string {
	if text == "" {
		return "-"
	}
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// printJSON prints v as one line of JSON.
func (p *program) printJSON(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return local(err)
	}
	_, err = p.out.Write(append(text, '\n'))
	return local(err)
}

// appendTree appends what unpack returned as indented lines NAME: VALUE, names in order.
func appendTree(dst []byte, indent string, v any) []byte {
	object, ok := v.(map[string]any)
	if !ok {
		return append(append(append(dst, indent...), leaf(v)...), '\n')
	}
	for _, name := range slices.SortedFunc(maps.Keys(object), naturally) {
		dst = append(append(append(dst, indent...), cell(name)...), ':')
		if inner, ok := object[name].(map[string]any); ok && len(inner) > 0 {
			dst = appendTree(append(dst, '\n'), indent+"  ", inner)
			continue
		}
		dst = append(append(append(dst, ' '), leaf(object[name])...), '\n')
	}
	return dst
}

// leaf is a value that is no object, or an empty one, in one line.
func leaf(v any) string {
	switch v := v.(type) {
	case string:
		return cell(v)
	case json.Number:
		return v.String()
	}
	text, err := json.Marshal(v)
	if err != nil {
		return cell(err.Error())
	}
	return string(text)
}

// naturally orders names that begin with numbers by these: 5ms before 10ms.
func naturally(a, b string) int {
	if x, y := leadingNumber(a), leadingNumber(b); x != y {
		if x < y {
			return -1
		}
		return 1
	}
	return strings.Compare(a, b)
}

// leadingNumber is the number that text begins with, -1 if it begins with none.
func leadingNumber(text string) float64 {
	end := strings.IndexFunc(text, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end < 0 {
		end = len(text)
	}
	n, err := strconv.ParseFloat(text[:end], 64)
	if err != nil {
		return -1
	}
	return n
}

// printable returns text in which nothing moves a terminal's cursor; it may have lines.
func printable(text string) string {
	if !strings.ContainsFunc(text, isControl) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if isControl(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isControl(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
