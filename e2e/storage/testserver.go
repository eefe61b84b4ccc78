// Package testserver stands in for the package of the same name in upstream's etcd3 tests (run.sh exchanges them): the
// server it runs is the embedded store's etcd facade, named by ETCD_FACADE, on a unix socket.
package testserver

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

// NewTestConfig is for callers that change etcd's settings. The facade has one of them: how often watches are told of
// their progress.
func NewTestConfig(testing.TB) *embed.Config { return embed.NewConfig() }

// RunEtcd runs the facade on an empty directory until the test ends.
func RunEtcd(t testing.TB, config *embed.Config) *kubernetes.Client {
	t.Helper()
	if config == nil {
		config = NewTestConfig(t)
	}
	// etcd's default.
	notify := "600"
	if interval := config.WatchProgressNotifyInterval; interval > 0 {
		notify = strconv.Itoa(max(1, int(interval.Seconds())))
	}
	// Paths of unix sockets are short; those of test directories may not be.
	directory, err := os.MkdirTemp("", "facade-")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(directory, "socket")
	server := exec.Command(os.Getenv("ETCD_FACADE"), filepath.Join(directory, "data"), socket, notify)
	server.Stderr = os.Stderr
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		t.Fatalf("starting the facade: %v", err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		_ = os.RemoveAll(directory)
	})
	for range 500 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	client, err := kubernetes.New(clientv3.Config{
		Endpoints:   []string{"unix://" + socket},
		DialTimeout: 10 * time.Second,
		Logger:      zaptest.NewLogger(t, zaptest.Level(zapcore.ErrorLevel)),
	})
	if err != nil {
		t.Fatal(err)
	}
	recorder := storagetesting.NewKubernetesRecorder(client.Kubernetes)
	client.KV = storagetesting.NewKVRecorder(client.KV, recorder)
	client.Kubernetes = recorder
	return client
}
