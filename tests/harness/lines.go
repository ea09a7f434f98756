package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"
)

// A lineWriter writes JSON lines from any number of goroutines, each line with one write so that a reader at the other end
// of a pipe sees it at once.
type lineWriter struct {
	mu      sync.Mutex
	encoder *json.Encoder
}

func newLineWriter(w io.Writer) *lineWriter {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return &lineWriter{encoder: encoder}
}

// emit writes one line. Most callers ignore the error: if standard output is gone, SIGPIPE ends the process.
func (w *lineWriter) emit(value any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.encoder.Encode(value)
}

// eachLine calls f with every line of r that is not blank, and its number counted from 1, until f fails.
func eachLine(r io.Reader, f func(number int, line []byte) error) error {
	lines := bufio.NewReader(r)
	for number := 1; ; number++ {
		line, readErr := lines.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := f(number, line); err != nil {
				return err
			}
		}
		if errors.Is(readErr, io.EOF) {
			return nil
		}
		if readErr != nil {
			return readErr
		}
	}
}

// decodeLine decodes one JSON object and refuses fields it does not know: a misspelt option would make a test vacuous.
func decodeLine(line []byte, value any) error {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	return decoder.Decode(value)
}

// A duration is a time.Duration that JSON spells the Go way, as in "1h30m".
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}

// unixSeconds renders a time for JSON: whole seconds since 1970, or null if Asynq has no such time.
func unixSeconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	seconds := t.Unix()
	return &seconds
}
