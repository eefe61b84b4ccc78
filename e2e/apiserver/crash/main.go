// Command crash kills our API server under load, again and again, and checks what comes back.
//
//	crash -server kube-apiserver [-cycles 200] [-plant lost|twice|skip]
//
// Writers create, change and delete ConfigMaps with values that occur once. After every kill -9 and restart: what was
// acknowledged is there, exactly; what was cut off is there or not, but nothing else is. Watchers follow all the while:
// between two relists they see every change once, in order. -plant makes a fault that must be found.
package main

import (
	"flag"
	"fmt"
	"log"
	"math/rand"
	"os"
	"path/filepath"
	"time"

	"corten/apiserver/server"
)

func main() {
	binary := flag.String("server", "", "our kube-apiserver")
	cycles := flag.Int("cycles", 200, "kills")
	plant := flag.String("plant", "", "a fault: lost cuts the end off the store's log after a kill, twice and skip falsify what a watcher saw")
	flag.Parse()
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "crash-")
	check(err)
	defer os.RemoveAll(dir)
	run := &run{binary: *binary, dir: dir, plant: *plant, history: newHistory()}
	faults := run.cycles(*cycles)
	fmt.Printf("%d kills, %d writes acknowledged, %d cut off, %d events seen by %d watchers, %d relists, %d faults\n",
		*cycles, run.history.acknowledged, run.history.cut, run.events(), len(run.watchers), run.relists(), len(faults))
	for i, fault := range faults {
		if i == 20 {
			break
		}
		fmt.Println(fault)
	}
	if *plant != "" {
		if len(faults) == 0 {
			log.Fatalf("the planted fault %q was not found", *plant)
		}
		fmt.Printf("the planted fault %q was found\n", *plant)
		return
	}
	if len(faults) > 0 {
		log.Fatal("the store or the watch is not reliable")
	}
}

type run struct {
	binary, dir, plant string
	history            *history
	watchers           []*watcher
}

func (r *run) cycles(count int) []string {
	var faults []string
	for cycle := range count {
		s, err := server.StartOurs(r.binary, r.dir)
		check(err)
		if cycle == 0 {
			namespace := `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"crash"}}`
			_, err := s.Do("POST", "/api/v1/namespaces", jsonBody, []byte(namespace))
			check(err)
			for i := range 3 {
				r.watchers = append(r.watchers, &watcher{name: fmt.Sprintf("watcher %d", i), plant: r.plantFor(i)})
			}
		}
		faults = append(faults, r.settle(s)...)
		for _, w := range r.watchers {
			w.start(s)
		}
		stop := make(chan struct{})
		done := r.history.load(s, stop)
		time.Sleep(time.Duration(100+rand.Intn(400)) * time.Millisecond)
		s.Stop()
		close(stop)
		done.Wait()
		for _, w := range r.watchers {
			w.wait()
		}
		if r.plant == "lost" && cycle == count/2 {
			check(cutLog(filepath.Join(r.dir, "ours", "data")))
		}
	}
	s, err := server.StartOurs(r.binary, r.dir)
	check(err)
	defer s.Stop()
	faults = append(faults, r.settle(s)...)
	end, err := r.history.sentinel(s)
	check(err)
	for _, w := range r.watchers {
		w.until(s, end)
		faults = append(faults, w.check(r.history)...)
	}
	return faults
}

func (r *run) plantFor(watcher int) string {
	if watcher == 0 && r.plant != "lost" {
		return r.plant
	}
	return ""
}

// Compares what the server has with what it acknowledged.
func (r *run) settle(s *server.Server) []string {
	present, _, err := list(s)
	check(err)
	return r.history.settle(present)
}

func (r *run) events() (count int) {
	for _, w := range r.watchers {
		for _, segment := range w.segments {
			count += len(segment.events)
		}
	}
	return count
}

func (r *run) relists() (count int) {
	for _, w := range r.watchers {
		count += len(w.segments) - 1
	}
	return count
}

// Takes the last bytes of the newest file of the store's log: acknowledged writes that never reached the disk.
func cutLog(dir string) error {
	var newest string
	var at time.Time
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() && info.Size() > 0 && info.ModTime().After(at) && filepath.Base(path) != "LOCK" {
			newest, at = path, info.ModTime()
		}
		return nil
	})
	if err != nil {
		return err
	}
	data, err := os.ReadFile(newest)
	if err != nil {
		return err
	}
	// Logs may be allocated ahead: what counts is where the data ends.
	end := len(data)
	for end > 0 && data[end-1] == 0 {
		end--
	}
	for i := max(0, end-2000); i < end; i++ {
		data[i] = 0
	}
	log.Printf("cut the end off %s", newest)
	return os.WriteFile(newest, data, 0o600)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
