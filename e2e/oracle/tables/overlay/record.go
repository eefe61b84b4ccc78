//go:build ignore

// Package record notes calls: one JSON line each.
package record

import (
	"bytes"
	"encoding/json"
	"os"
	"sync"
	"sync/atomic"
)

var (
	mu    sync.Mutex
	file  *os.File
	seen  = map[string]bool{}
	depth atomic.Int32
)

// Outermost says whether a call is the test's own, not one made by another recorded call. Done must follow.
func Outermost() bool { return depth.Add(1) == 1 }

func Done() { depth.Add(-1) }

func Line(v map[string]any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	if seen[b.String()] {
		return
	}
	seen[b.String()] = true
	if file == nil {
		f, err := os.OpenFile(os.Getenv("RECORD_CALLS"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			panic(err)
		}
		file = f
	}
	if _, err := file.Write(b.Bytes()); err != nil {
		panic(err)
	}
}

func Err(err error) any {
	if err == nil {
		return nil
	}
	return err.Error()
}
