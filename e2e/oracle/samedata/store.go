package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An address of this machine that nothing listens on.
func freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	defer listener.Close()
	return "http://" + listener.Addr().String()
}

// The etcd both servers work on, by its JSON gateway.
type store struct{ endpoint string }

func (s store) ask(what string, question object) object {
	response, err := http.Post(s.endpoint+"/v3/kv/"+what, jsonType, bytes.NewReader(encode(question)))
	text, err := read(response, err)
	check(err)
	var answer object
	check(json.Unmarshal(text, &answer))
	return answer
}

func key(path string) string { return base64.StdEncoding.EncodeToString([]byte(path)) }

func (s store) revision(path string) int64 {
	revision, _ := s.get(path)
	return revision
}

// The revision that wrote a key, 0 if it is not there, and its value.
func (s store) get(path string) (int64, []byte) {
	kvs, _ := s.ask("range", object{"key": key(path)})["kvs"].([]any)
	if len(kvs) == 0 {
		return 0, nil
	}
	revision, err := strconv.ParseInt(kvs[0].(object)["mod_revision"].(string), 10, 64)
	check(err)
	value, err := base64.StdEncoding.DecodeString(kvs[0].(object)["value"].(string))
	check(err)
	return revision, value
}

// Returns when nobody has written a key for two seconds.
func (s store) settle(path string) {
	for last := int64(-1); last != s.revision(path); time.Sleep(2 * time.Second) {
		last = s.revision(path)
	}
}

func (s store) remove(path string) { s.ask("deleterange", object{"key": key(path)}) }

// Removes what a resource has stored under a name, in any namespace.
func (s store) removeNamed(resource, name string) {
	kvs, _ := s.ask("range", object{"key": key("/registry/"), "range_end": key("/registry0"), "keys_only": true})["kvs"].([]any)
	for _, kv := range kvs {
		path, err := base64.StdEncoding.DecodeString(kv.(object)["key"].(string))
		check(err)
		if strings.Contains(string(path), "/"+resource+"/") && strings.HasSuffix(string(path), "/"+name) {
			s.remove(string(path))
		}
	}
}

func read(response *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

func must(response *http.Response, err error) {
	_, err = read(response, err)
	check(err)
}
