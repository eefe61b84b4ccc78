package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"corten/apiserver/server"
)

// Requests about the ConfigMaps of one namespace.
type api struct {
	server    *server.Server
	namespace string
}

type meta struct {
	Name, UID, ResourceVersion, Continue string
	RemainingItemCount                   *int64
	Annotations, Labels                  map[string]string
}

// What any answer may hold: an object, a list, or a status.
type answer struct {
	HTTP     int
	Kind     string
	Metadata meta
	Data     map[string]string
	Items    []answer
	Code     int
	Reason   string
	Message  string
	Details  struct {
		RetryAfterSeconds int
		Causes            []struct{ Reason string }
	}
}

func (a answer) revision() int64 {
	revision, err := strconv.ParseInt(a.Metadata.ResourceVersion, 10, 64)
	if err != nil {
		return -1
	}
	return revision
}

func (a answer) names() string {
	var names []string
	for _, item := range a.Items {
		if item.Metadata.Name != "kube-root-ca.crt" {
			names = append(names, item.Metadata.Name)
		}
	}
	return strings.Join(names, " ")
}

func (a *api) makeNamespace() error {
	body := fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q}}`, a.namespace)
	_, err := a.server.Do("POST", "/api/v1/namespaces", map[string]string{"Content-Type": "application/json"}, []byte(body))
	return err
}

func (a *api) path() string { return "/api/v1/namespaces/" + a.namespace + "/configmaps" }

func (a *api) request(ctx context.Context, method, rest, contentType, body string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, a.server.URL+a.path()+rest, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+server.Token)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	return a.server.Client.Do(request)
}

// One request, whatever its status.
func (a *api) call(method, rest, body string) (answer, error) {
	contentType := "application/json"
	if method == "PATCH" {
		contentType = "application/merge-patch+json"
	}
	response, err := a.request(context.Background(), method, rest, contentType, body)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	var out answer
	if err := json.Unmarshal(text, &out); err != nil {
		return out, fmt.Errorf("%s %s: %w: %.200s", method, rest, err, text)
	}
	out.HTTP = response.StatusCode
	return out, nil
}

// One request that must succeed.
func (a *api) ok(method, rest, body string) (answer, error) {
	out, err := a.call(method, rest, body)
	if err == nil && out.HTTP >= 300 {
		err = fmt.Errorf("%s %s: %d %s", method, rest, out.HTTP, out.Message)
	}
	return out, err
}

func configMap(name, label, value string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"labels":{"l":%q}},"data":{"v":%q}}`, name, label, value)
}

func (a *api) create(names ...string) (last answer, err error) {
	for _, name := range names {
		if last, err = a.ok("POST", "", configMap(name, "x", "1")); err != nil {
			return last, err
		}
	}
	return last, nil
}

// A watch and its events.
type watching struct {
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

type event struct {
	Type   string
	Object answer
}

func (a *api) watch(query string) (*watching, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	response, err := a.request(ctx, "GET", "?watch=1&"+query, "", "")
	if err != nil {
		cancel()
		return nil, err
	}
	if response.StatusCode != 200 {
		text, _ := io.ReadAll(response.Body)
		cancel()
		return nil, fmt.Errorf("watch %s: %s: %s", query, response.Status, text)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	return &watching{lines, cancel}, nil
}

// The next event that is not about what a controller put there.
func (w *watching) next() (event, error) {
	for w.lines.Scan() {
		var e event
		if err := json.Unmarshal(w.lines.Bytes(), &e); err != nil {
			return e, err
		}
		if e.Object.Metadata.Name != "kube-root-ca.crt" {
			return e, nil
		}
	}
	return event{}, fmt.Errorf("the watch ended: %v", w.lines.Err())
}

// The next events, short: type, name and value.
func (w *watching) take(count int) (string, []event, error) {
	var short []string
	var all []event
	for range count {
		e, err := w.next()
		if err != nil {
			return strings.Join(short, " "), all, err
		}
		all = append(all, e)
		short = append(short, fmt.Sprintf("%s:%s:%s", e.Type, e.Object.Metadata.Name, e.Object.Data["v"]))
	}
	return strings.Join(short, " "), all, nil
}

func want[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s: %v, should be %v", what, got, want)
	}
	return nil
}

func first(errors ...error) error {
	for _, err := range errors {
		if err != nil {
			return err
		}
	}
	return nil
}
