package main

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// An entry is one line of a ledger: something that happened to a task.
type entry struct {
	AtMS         int64  `json:"at_ms"` // milliseconds since 1970
	Event        string `json:"event"` // accepted, refused, start, end
	ID           string `json:"id"`
	Ends         string `json:"ends,omitempty"`         // accepted: how the task ends; gone, archived or completed
	Acknowledged bool   `json:"acknowledged,omitempty"` // accepted: the replicas have it
	Outcome      string `json:"outcome,omitempty"`      // end: see attempt
	Error        string `json:"error,omitempty"`        // refused: why
}

// A ledger is a file of entries, each of them written at once, so that whoever kills this process has all of them. A nil
// ledger takes no notes.
type ledger struct {
	mu   sync.Mutex
	file *os.File
}

// openLedger opens the ledger of that name; an empty name is none. What is in the file already stays.
func openLedger(name string) (*ledger, error) {
	if name == "" {
		return nil, nil
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &ledger{file: file}, nil
}

func (l *ledger) write(at time.Time, e entry) {
	if l == nil {
		return
	}
	e.AtMS = at.UnixMilli()
	line, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings and integers always encode
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.file.Write(append(line, '\n')); err != nil {
		panic(err) // a ledger with gaps would prove what is not so
	}
}

func (l *ledger) close() {
	if l != nil {
		l.file.Close()
	}
}
