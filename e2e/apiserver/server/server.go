// Package server runs API servers as child processes and talks to them.
package server

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Token is what every request carries; its user may do everything.
const Token = "benchmark"

// Server is a server under test, with the processes it needs.
type Server struct {
	Name      string
	URL       string
	command   *exec.Cmd
	companion *exec.Cmd
	Client    *http.Client
}

// StartOurs runs our server on its embedded store below dir.
func StartOurs(binary, dir string) (*Server, error) {
	return startServer("ours", binary, filepath.Join(dir, "ours"), "--data-dir="+filepath.Join(dir, "ours", "data"))
}

// StartUpstream runs upstream's server and an etcd below dir.
func StartUpstream(binary, etcd, dir string) (*Server, error) {
	home := filepath.Join(dir, "upstream")
	client, peer := freePort(), freePort()
	endpoint := fmt.Sprintf("http://127.0.0.1:%d", client)
	companion := exec.Command(etcd, "--data-dir", filepath.Join(home, "etcd"), "--log-level", "error",
		"--listen-client-urls", endpoint, "--advertise-client-urls", endpoint, "--quota-backend-bytes", "8589934592",
		"--listen-peer-urls", fmt.Sprintf("http://127.0.0.1:%d", peer))
	companion.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := companion.Start(); err != nil {
		return nil, fmt.Errorf("starting etcd: %w", err)
	}
	s, err := startServer("upstream", binary, home, "--etcd-servers="+endpoint)
	if s != nil {
		s.companion = companion
	}
	return s, err
}

// StartUpstreamOnFacade runs upstream's server on our embedded store, served as etcd by the given program.
func StartUpstreamOnFacade(binary, facade, dir string) (*Server, error) {
	home := filepath.Join(dir, "mixed")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, err
	}
	socket := filepath.Join(home, "socket")
	companion := exec.Command(facade, filepath.Join(home, "store"), socket)
	companion.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := companion.Start(); err != nil {
		return nil, fmt.Errorf("starting the facade: %w", err)
	}
	s, err := startServer("mixed", binary, home, "--etcd-servers=unix://"+socket)
	if s != nil {
		s.companion = companion
	}
	return s, err
}

// StartOnEtcd runs a server of either kind below dir on an etcd that is there already, with more flags.
func StartOnEtcd(name, binary, dir, endpoint string, flags ...string) (*Server, error) {
	return startServer(name, binary, filepath.Join(dir, name), "--etcd-servers="+endpoint, flags...)
}

func startServer(name, binary, home, store string, flags ...string) (*Server, error) {
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, err
	}
	key, err := serviceAccountKey(home)
	if err != nil {
		return nil, err
	}
	tokens := filepath.Join(home, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(Token+",bench,bench,system:masters\n"), 0o600); err != nil {
		return nil, err
	}
	port := freePort()
	logs, err := os.OpenFile(filepath.Join(home, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	flags = append([]string{store, "--token-auth-file=" + tokens, "--cert-dir=" + filepath.Join(home, "certs"),
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(port), "--authorization-mode=Node,RBAC",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + key,
		"--service-account-signing-key-file=" + key, "--service-cluster-ip-range=10.0.0.0/24",
		// Nobody makes the default service accounts here.
		"--disable-admission-plugins=ServiceAccount"}, flags...)
	command := exec.Command(binary, flags...)
	command.Stdout, command.Stderr = logs, logs
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", binary, err)
	}
	s := &Server{Name: name, URL: fmt.Sprintf("https://127.0.0.1:%d", port), command: command, Client: NewClient()}
	for range 6000 {
		if _, err := s.Do("GET", "/readyz", nil, nil); err == nil {
			return s, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	text, _ := os.ReadFile(filepath.Join(home, "log"))
	return s, fmt.Errorf("%s is not ready after a minute:\n%s", name, text)
}

// PID is the server's process.
func (s *Server) PID() int { return s.command.Process.Pid }

// Stop kills the processes.
func (s *Server) Stop() {
	for _, command := range []*exec.Cmd{s.command, s.companion} {
		if command != nil {
			_ = command.Process.Kill()
			_ = command.Wait()
		}
	}
}

// NewClient is a client of its own connection, HTTP/2 as client-go's.
func NewClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2:  true,
		DisableCompression: true,
	}}
}

// Do is one request; the body is read to its end and its size returned.
func (s *Server) Do(method, path string, headers map[string]string, body []byte) (int64, error) {
	response, err := s.Open(s.Client, method, path, headers, body)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	return io.Copy(io.Discard, response.Body)
}

// Open is one request whose body the caller reads.
func (s *Server) Open(client *http.Client, method, path string, headers map[string]string, body []byte) (*http.Response, error) {
	request, err := http.NewRequest(method, s.URL+path, strings.NewReader(string(body)))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+Token)
	request.Header.Set("User-Agent", "bench")
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4000))
		response.Body.Close()
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	return response, nil
}

// CPU is the CPU time of the process so far, in microseconds.
func (s *Server) CPU() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID()))
	if err != nil {
		return 0, err
	}
	// Fields are counted from the end of the command name.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("unable to read the CPU time of process %d", s.PID())
	}
	const microsecondsPerTick = 10_000
	return (user + system) * microsecondsPerTick, nil
}

// Resident is the resident memory now, Peak the most so far, in MiB.
func (s *Server) Resident() (float64, error) { return s.status("VmRSS:") }
func (s *Server) Peak() (float64, error)     { return s.status("VmHWM:") }

func (s *Server) status(name string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, found := strings.CutPrefix(line, name); found {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("no %s of process %d", name, s.PID())
}

func freePort() int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func serviceAccountKey(home string) (string, error) {
	path := filepath.Join(home, "sa.key")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return path, os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}
