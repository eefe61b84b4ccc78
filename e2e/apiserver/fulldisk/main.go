// Command fulldisk fills the file system under our API server's store (a small tmpfs: needs root) and checks that
// writes are refused with an error, reads go on, and deleting makes room again.
//
//	fulldisk -server kube-apiserver
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"corten/apiserver/server"
)

const maps = "/api/v1/namespaces/default/configmaps"

var jsonBody = map[string]string{"Content-Type": "application/json"}

func main() {
	binary := flag.String("server", "", "our kube-apiserver")
	size := flag.Int("mib", 400, "size of the file system")
	flag.Parse()
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "full-")
	must(err)
	disk := filepath.Join(dir, "ours")
	must(os.Mkdir(disk, 0o755))
	must(syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%dm", *size)))
	s, err := server.StartOurs(*binary, dir)
	defer func() {
		_ = syscall.Unmount(disk, syscall.MNT_DETACH)
		_ = os.RemoveAll(dir)
	}()
	if err == nil {
		err = check(s, *size)
		s.Stop()
	}
	if err != nil {
		log.Print(err)
	}
}

func configMap(i int, size int) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m%d"},"data":{"v":%q}}`, i, strings.Repeat("x", size))
}

func check(s *server.Server, mib int) error {
	written := 0
	var refusal error
	for refusal == nil && written < 2*mib {
		_, refusal = s.Do("POST", maps, jsonBody, configMap(written, 900<<10))
		if refusal == nil {
			written++
		}
	}
	if refusal == nil {
		return fmt.Errorf("%d MiB fit on a disk of %d", written, mib)
	}
	fmt.Printf("after %d ConfigMaps of 900 KiB: %v\n", written, refusal)
	if _, err := s.Do("GET", maps+"/m0", nil, nil); err != nil {
		return fmt.Errorf("reading on a full disk: %w", err)
	}
	bytes, err := s.Do("GET", maps, nil, nil)
	if err != nil {
		return fmt.Errorf("listing on a full disk: %w", err)
	}
	fmt.Printf("reads go on: a list of %d MiB\n", bytes>>20)
	for i := range written {
		if _, err := s.Do("DELETE", fmt.Sprintf("%s/m%d", maps, i), nil, nil); err != nil {
			return fmt.Errorf("deleting on a full disk: %w", err)
		}
	}
	fmt.Println("deleting works")
	for range 60 {
		if _, err = s.Do("POST", maps, jsonBody, configMap(0, 1000)); err == nil {
			fmt.Println("writes resumed by themselves")
			return nil
		}
		time.Sleep(time.Second)
	}
	return fmt.Errorf("writes do not resume: %w", err)
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
