// Command bench measures what API servers spend on the same requests: CPU time of the server process alone, from
// /proc, per request or delivered event, and resident memory. Servers run side by side and take turns.
//
//	bench -ours kube-apiserver -upstream kube-apiserver -etcd etcd [-pods 10000] [-rounds 3]
//
// Prints one row per measure: ours, upstream's, their ratio, and the goal where there is one.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sort"
	"strings"
	"time"

	"corten/apiserver/server"
)

// A measure and the share of upstream's cost it may have at most (0 for none).
type measure struct {
	name string
	unit string
	goal float64
	run  func(*server.Server) (float64, error)
}

func main() {
	ours := flag.String("ours", "", "our kube-apiserver; runs on its embedded store")
	upstream := flag.String("upstream", "", "upstream's kube-apiserver; runs on etcd")
	etcd := flag.String("etcd", "etcd", "etcd")
	pods := flag.Int("pods", 10000, "pods to store")
	rounds := flag.Int("rounds", 3, "turns per measure; the median counts")
	only := flag.String("only", "", "measures to run: parts of names, separated by commas")
	rest := flag.Duration("rest", 150*time.Second, "how long servers are left alone before their memory is looked at once more")
	pause := flag.Duration("pause", 0, "stay after the measures, for a profiler")
	flag.Parse()
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "bench-apiserver-")
	check(err)
	defer os.RemoveAll(dir)
	var servers []*server.Server
	stopAll := func() {
		for _, s := range servers {
			s.Stop()
		}
	}
	defer stopAll()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	go func() { <-interrupted; stopAll(); os.RemoveAll(dir); os.Exit(1) }()
	start := func(s *server.Server, err error) {
		if s != nil {
			servers = append(servers, s)
		}
		if err != nil {
			stopAll()
			log.Fatal(err)
		}
	}
	if *ours != "" {
		start(server.StartOurs(*ours, dir))
	}
	if *upstream != "" {
		start(server.StartUpstream(*upstream, *etcd, dir))
	}
	report := newReport(servers)
	time.Sleep(10 * time.Second)
	report.row("memory idle", "MiB", 1.0/6, each(servers, (*server.Server).Resident))
	created := each(servers, func(s *server.Server) (float64, error) { return fill(s, *pods) })
	report.row("create pod (initial load)", "us", 1.0/5, created)
	for _, m := range measures(*pods) {
		if !wanted(m.name, *only) {
			continue
		}
		results := make([][]float64, len(servers))
		for range *rounds {
			for i, value := range each(servers, m.run) {
				results[i] = append(results[i], value)
			}
		}
		middle := make([]float64, len(servers))
		for i := range results {
			middle[i] = median(results[i])
		}
		report.row(m.name, m.unit, m.goal, middle)
	}
	report.row("memory loaded", "MiB", 1.0/6, each(servers, (*server.Server).Resident))
	time.Sleep(*rest)
	report.row("memory loaded, at rest", "MiB", 1.0/6, each(servers, (*server.Server).Resident))
	report.row("memory peak", "MiB", 0, each(servers, (*server.Server).Peak))
	for _, s := range servers {
		log.Printf("%s: process %d at %s", s.Name, s.PID(), s.URL)
	}
	time.Sleep(*pause)
}

func wanted(name, only string) bool {
	if only == "" {
		return true
	}
	for part := range strings.SplitSeq(only, ",") {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// Runs something on every server in turn.
func each(servers []*server.Server, run func(*server.Server) (float64, error)) []float64 {
	out := make([]float64, len(servers))
	for i, s := range servers {
		value, err := run(s)
		if err != nil {
			log.Printf("%s: %v", s.Name, err)
			value = -1
		}
		out[i] = value
	}
	return out
}

type report struct{}

func newReport(servers []*server.Server) report {
	fmt.Printf("%-28s %-5s", "measure", "unit")
	for _, s := range servers {
		fmt.Printf(" %12s", s.Name)
	}
	fmt.Printf(" %9s %9s\n", "ratio", "goal")
	return report{}
}

func (report) row(name, unit string, goal float64, values []float64) {
	fmt.Printf("%-28s %-5s", name, unit)
	for _, v := range values {
		fmt.Printf(" %12.1f", v)
	}
	if len(values) == 2 && values[0] > 0 && values[1] > 0 {
		fmt.Printf("   1/%-6.1f", values[1]/values[0])
		if goal > 0 {
			verdict := "missed"
			if values[0]/values[1] <= goal {
				verdict = "met"
			}
			fmt.Printf("   1/%-4.0f %s", 1/goal, verdict)
		}
	}
	fmt.Println()
}

func median(values []float64) float64 {
	sort.Float64s(values)
	return values[len(values)/2]
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
