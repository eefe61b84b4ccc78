package main

import (
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
)

var rules = []rule{
	{"R1 an acknowledged write is seen by every later read", visible},
	{"R2 revisions are numbers; no-ops take none, deletions one", revisions},
	{"R3 a list without revision is not older than acknowledged writes", fresh},
	{"R4 revision 0, not older than, exact, and too large", matches},
	{"R5 combinations that make no sense are refused", combinations},
	{"R6 a paged list is one snapshot", pages},
	{"R7 a watch shows every change once, in order; 410 if too old", everything},
	{"R8 entering and leaving a selection are additions and deletions", selection},
	{"R9 a streaming list ends with an annotated bookmark", streaming},
	{"R10 all watches see one order", oneOrder},
	{"R11 failed preconditions have no effect", preconditions},
	{"R13 a dry run writes nothing", dryRun},
	{"R14 lists from cache and store agree", agreement},
}

func visible(a *api) error {
	if _, err := a.create("a"); err != nil {
		return err
	}
	got, err1 := a.ok("GET", "/a", "")
	list, err2 := a.ok("GET", "", "")
	named, err3 := a.ok("GET", "?fieldSelector=metadata.name%3Da", "")
	return first(err1, err2, err3, want("get", got.Data["v"], "1"), want("list", list.names(), "a"), want("list by name", named.names(), "a"))
}

func revisions(a *api) error {
	made, err := a.create("a")
	if err != nil {
		return err
	}
	w, err := a.watch("resourceVersion=" + made.Metadata.ResourceVersion)
	if err != nil {
		return err
	}
	defer w.cancel()
	same, err1 := a.ok("PATCH", "/a", `{"data":{"v":"1"}}`)
	changed, err2 := a.ok("PATCH", "/a", `{"data":{"v":"2"}}`)
	_, err3 := a.ok("DELETE", "/a", "")
	if err := first(err1, err2, err3); err != nil {
		return err
	}
	short, events, err := w.take(2)
	if err != nil {
		return err
	}
	return first(
		want("a number", made.revision() > 0, true),
		want("a no-op", same.revision(), made.revision()),
		want("a change is later", changed.revision() > made.revision(), true),
		want("events", short, "MODIFIED:a:2 DELETED:a:2"),
		want("the deletion is later", events[1].Object.revision() > changed.revision(), true))
}

func fresh(a *api) error {
	for i := range 100 {
		name := fmt.Sprintf("m%03d", i)
		made, err := a.create(name)
		if err != nil {
			return err
		}
		list, err := a.ok("GET", "", "")
		if err := first(err, want("the newest is there", strings.HasSuffix(list.names(), name), true),
			want("the list is not older", list.revision() >= made.revision(), true)); err != nil {
			return err
		}
	}
	return nil
}

func matches(a *api) error {
	old, err := a.create("a", "b")
	if err != nil {
		return err
	}
	now, err := a.create("c")
	if err != nil {
		return err
	}
	at := old.Metadata.ResourceVersion
	list := func(query, names string) error {
		got, err := a.ok("GET", "?"+query, "")
		return first(err, want(query, got.names(), names))
	}
	limited, err := a.ok("GET", "?limit=5&resourceVersion="+at, "")
	if err != nil {
		return err
	}
	future, err := a.call("GET", fmt.Sprintf("?resourceVersion=%d", now.revision()+1_000_000), "")
	if err != nil {
		return err
	}
	cause := ""
	if len(future.Details.Causes) > 0 {
		cause = future.Details.Causes[0].Reason
	}
	return first(
		list("resourceVersion="+now.Metadata.ResourceVersion, "a b c"),
		list("resourceVersionMatch=NotOlderThan&resourceVersion="+at, "a b c"),
		list("resourceVersion=0", "a b c"),
		list("resourceVersionMatch=Exact&resourceVersion="+at, "a b"),
		want("a limit makes a revision exact", limited.names(), "a b"),
		want("its revision", limited.Metadata.ResourceVersion, at),
		want("too large", fmt.Sprintf("%d %s %s %d", future.HTTP, future.Reason, cause, future.Details.RetryAfterSeconds), "504 Timeout ResourceVersionTooLarge 1"))
}

func combinations(a *api) error {
	if _, err := a.create("a", "b"); err != nil {
		return err
	}
	page, err := a.ok("GET", "?limit=1", "")
	if err != nil {
		return err
	}
	token := page.Metadata.Continue
	table := []struct {
		query string
		code  int
	}{
		{"resourceVersionMatch=Exact", 422},
		{"resourceVersionMatch=NotOlderThan&continue=" + token, 422},
		{"resourceVersionMatch=Sometimes&resourceVersion=1", 422},
		{"resourceVersionMatch=Exact&resourceVersion=0", 422},
		{"continue=" + token + "&resourceVersion=7", 400},
		{"continue=nonsense", 400},
		{"resourceVersion=x", 400},
		{"sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=0", 422},
		{"watch=1&resourceVersionMatch=NotOlderThan&resourceVersion=1", 422},
		{"watch=1&sendInitialEvents=true", 422},
		{"watch=1&sendInitialEvents=true&resourceVersionMatch=Exact", 422},
		{"labelSelector=a%20b%20c", 400},
		{"fieldSelector=spec.none%3D1", 400},
	}
	for _, row := range table {
		got, err := a.call("GET", "?"+row.query, "")
		if err := first(err, want(row.query, got.HTTP, row.code)); err != nil {
			return err
		}
	}
	return nil
}

func pages(a *api) error {
	if _, err := a.create("a", "b", "c", "d", "e"); err != nil {
		return err
	}
	one, err := a.ok("GET", "?limit=2&labelSelector=l", "")
	if err != nil {
		return err
	}
	plain, err1 := a.ok("GET", "?limit=2", "")
	_, err2 := a.ok("DELETE", "/d", "")
	_, err3 := a.create("f")
	two, err4 := a.ok("GET", "?limit=2&labelSelector=l&continue="+one.Metadata.Continue, "")
	three, err5 := a.ok("GET", "?limit=2&labelSelector=l&continue="+two.Metadata.Continue, "")
	if err := first(err1, err2, err3, err4, err5); err != nil {
		return err
	}
	if plain.Metadata.RemainingItemCount == nil {
		return fmt.Errorf("a page without selector does not say how many remain")
	}
	ancient := base64.RawURLEncoding.EncodeToString([]byte(`{"v":"meta.k8s.io/v1","rv":1,"start":"` + a.namespace + `/a\u0000"}`))
	gone, err := a.call("GET", "?limit=2&continue="+ancient, "")
	if err != nil {
		return err
	}
	if gone.HTTP != 200 && (gone.HTTP != 410 || gone.Metadata.Continue == "") {
		return fmt.Errorf("a compacted page: %d %s", gone.HTTP, gone.Message)
	}
	return first(
		want("pages", one.names()+"|"+two.names()+"|"+three.names(), "a b|c d|e"),
		want("one revision", two.Metadata.ResourceVersion+three.Metadata.ResourceVersion, one.Metadata.ResourceVersion+one.Metadata.ResourceVersion),
		want("no count with a selector", one.Metadata.RemainingItemCount == nil, true),
		want("the last page ends", three.Metadata.Continue, ""))
}

func everything(a *api) error {
	made, err := a.create("start")
	if err != nil {
		return err
	}
	const count = 150
	for i := range count {
		if _, err := a.create(fmt.Sprintf("m%03d", i)); err != nil {
			return err
		}
	}
	w, err := a.watch("resourceVersion=" + made.Metadata.ResourceVersion)
	if err != nil {
		return err
	}
	defer w.cancel()
	last := made.revision()
	for i := range count {
		e, err := w.next()
		name := fmt.Sprintf("m%03d", i)
		if err := first(err, want("the event", e.Type+" "+e.Object.Metadata.Name, "ADDED "+name),
			want("later", e.Object.revision() > last, true)); err != nil {
			return err
		}
		last = e.Object.revision()
	}
	old, err := a.watch("resourceVersion=1")
	if err != nil {
		return want("a watch from long ago is refused", strings.Contains(err.Error(), "410"), true)
	}
	defer old.cancel()
	e, err := old.next()
	if e.Type != "ERROR" {
		// All history is there yet: then it starts at the beginning.
		return first(err, want("the first event", e.Type+" "+e.Object.Metadata.Name, "ADDED start"))
	}
	return first(err, want("a watch from long ago", fmt.Sprint(e.Object.Code, e.Object.Reason), "410Expired"))
}

func selection(a *api) error {
	made, err := a.create("a")
	if err != nil {
		return err
	}
	w, err := a.watch("labelSelector=l%3Dx&resourceVersion=" + made.Metadata.ResourceVersion)
	if err != nil {
		return err
	}
	defer w.cancel()
	left, err1 := a.ok("PATCH", "/a", `{"metadata":{"labels":{"l":"y"}},"data":{"v":"2"}}`)
	_, err2 := a.ok("PATCH", "/a", `{"data":{"v":"3"}}`)
	_, err3 := a.ok("PATCH", "/a", `{"metadata":{"labels":{"l":"x"}},"data":{"v":"4"}}`)
	_, err4 := a.ok("PATCH", "/a", `{"data":{"v":"5"}}`)
	_, err5 := a.ok("DELETE", "/a", "")
	if err := first(err1, err2, err3, err4, err5); err != nil {
		return err
	}
	short, events, err := w.take(4)
	if err != nil {
		return err
	}
	return first(want("events", short, "DELETED:a:1 ADDED:a:4 MODIFIED:a:5 DELETED:a:5"),
		want("leaving has the revision of the change", events[0].Object.revision(), left.revision()),
		want("the deletion has its own", events[3].Object.revision() > events[2].Object.revision(), true))
}

func streaming(a *api) error {
	made, err := a.create("a", "b")
	if err != nil {
		return err
	}
	w, err := a.watch("sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&labelSelector=l")
	if err != nil {
		return err
	}
	defer w.cancel()
	short, events, err := w.take(3)
	if err != nil {
		return err
	}
	end := events[2].Object
	if err := first(want("events", short, "ADDED:a:1 ADDED:b:1 BOOKMARK::"),
		want("annotation", end.Metadata.Annotations["k8s.io/initial-events-end"], "true"),
		want("kind", end.Kind, "ConfigMap"),
		want("not older", end.revision() >= made.revision(), true)); err != nil {
		return err
	}
	if _, err := a.create("c"); err != nil {
		return err
	}
	short, _, err = w.take(1)
	return first(err, want("then", short, "ADDED:c:1"))
}

func oneOrder(a *api) error {
	made, err := a.create("start")
	if err != nil {
		return err
	}
	var watches []*watching
	for range 5 {
		w, err := a.watch("resourceVersion=" + made.Metadata.ResourceVersion)
		if err != nil {
			return err
		}
		defer w.cancel()
		watches = append(watches, w)
	}
	const writers, each = 5, 20
	var group sync.WaitGroup
	failures := make(chan error, writers)
	for w := range writers {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := range each {
				if _, err := a.create(fmt.Sprintf("w%d-%d", w, i)); err != nil {
					failures <- err
					return
				}
			}
		}()
	}
	group.Wait()
	select {
	case err := <-failures:
		return err
	default:
	}
	var orders []string
	for _, w := range watches {
		short, _, err := w.take(writers * each)
		if err != nil {
			return err
		}
		orders = append(orders, short)
	}
	for _, order := range orders[1:] {
		if err := want("the order", order, orders[0]); err != nil {
			return err
		}
	}
	return nil
}

func preconditions(a *api) error {
	made, err := a.create("a")
	if err != nil {
		return err
	}
	if _, err := a.ok("PATCH", "/a", `{"data":{"v":"2"}}`); err != nil {
		return err
	}
	stale := strings.Replace(configMap("a", "x", "3"), `"labels"`, fmt.Sprintf(`"resourceVersion":%q,"labels"`, made.Metadata.ResourceVersion), 1)
	updated, err1 := a.call("PUT", "/a", stale)
	uid, err2 := a.call("DELETE", "/a", `{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"other"}}`)
	again, err3 := a.call("POST", "", configMap("a", "x", "4"))
	now, err4 := a.ok("GET", "/a", "")
	return first(err1, err2, err3, err4,
		want("a stale update", fmt.Sprint(updated.HTTP, updated.Reason), "409Conflict"),
		want("another uid", fmt.Sprint(uid.HTTP, uid.Reason), "409Conflict"),
		want("a taken name", fmt.Sprint(again.HTTP, again.Reason), "409AlreadyExists"),
		want("no effect", now.Data["v"], "2"))
}

func dryRun(a *api) error {
	made, err := a.create("a")
	if err != nil {
		return err
	}
	w, err := a.watch("resourceVersion=" + made.Metadata.ResourceVersion)
	if err != nil {
		return err
	}
	defer w.cancel()
	_, err1 := a.ok("POST", "?dryRun=All", configMap("b", "x", "1"))
	_, err2 := a.ok("PATCH", "/a?dryRun=All", `{"data":{"v":"2"}}`)
	_, err3 := a.ok("DELETE", "/a?dryRun=All", "")
	_, err4 := a.create("c")
	if err := first(err1, err2, err3, err4); err != nil {
		return err
	}
	short, _, err := w.take(1)
	list, err5 := a.ok("GET", "", "")
	return first(err, err5, want("the only event", short, "ADDED:c:1"), want("the list", list.names(), "a c"),
		want("the value", list.Items[0].Data["v"]+list.Items[1].Data["v"], "11"))
}

func agreement(a *api) error {
	for i := range 30 {
		if _, err := a.create(fmt.Sprintf("m%02d", i)); err != nil {
			return err
		}
	}
	if _, err := a.ok("DELETE", "/m07", ""); err != nil {
		return err
	}
	describe := func(query string) (string, string, error) {
		list, err := a.ok("GET", query, "")
		text := ""
		for _, item := range list.Items {
			text += item.Metadata.Name + "@" + item.Metadata.ResourceVersion + " "
		}
		return text, list.Metadata.ResourceVersion, err
	}
	recent, at, err1 := describe("")
	exact, _, err2 := describe("?resourceVersionMatch=Exact&resourceVersion=" + at)
	cached, _, err3 := describe("?resourceVersionMatch=NotOlderThan&resourceVersion=" + at)
	return first(err1, err2, err3, want("exact", exact, recent), want("cached", cached, recent))
}
