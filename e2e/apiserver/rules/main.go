// Command rules checks the contract of lists and watches, rule by rule, on any API server.
//
//	rules -ours kube-apiserver -upstream kube-apiserver -etcd etcd
//
// A rule that upstream breaks is wrong; one that only ours breaks is a defect.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"time"

	"corten/apiserver/server"
)

type rule struct {
	name  string
	check func(*api) error
}

func main() {
	ours := flag.String("ours", "", "our kube-apiserver")
	upstream := flag.String("upstream", "", "upstream's kube-apiserver")
	etcd := flag.String("etcd", "etcd", "etcd, for upstream's server")
	facade := flag.String("facade", "", "serves our embedded store as etcd: upstream's server runs on that too")
	flag.Parse()
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "rules-")
	must(err)
	defer os.RemoveAll(dir)
	failed := 0
	if *ours != "" {
		s, err := server.StartOurs(*ours, dir)
		must(err)
		failed += run(s)
		s.Stop()
	}
	if *upstream != "" {
		s, err := server.StartUpstream(*upstream, *etcd, dir)
		must(err)
		failed += run(s)
		s.Stop()
	}
	if *upstream != "" && *facade != "" {
		s, err := server.StartUpstreamOnFacade(*upstream, *facade, dir)
		must(err)
		failed += run(s)
		s.Stop()
	}
	if failed > 0 {
		os.RemoveAll(dir)
		os.Exit(1)
	}
}

func run(s *server.Server) (failed int) {
	for number, rule := range rules {
		began := time.Now()
		api := &api{server: s, namespace: fmt.Sprintf("rules-%d", number)}
		err := api.makeNamespace()
		if err == nil {
			err = rule.check(api)
		}
		result := "holds"
		if err != nil {
			result = "BROKEN: " + err.Error()
			failed++
		}
		fmt.Printf("%-9s %-62s %5.1f s  %s\n", s.Name, rule.name, time.Since(began).Seconds(), result)
	}
	fmt.Printf("%-9s %d rules, %d broken\n", s.Name, len(rules), failed)
	return failed
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
