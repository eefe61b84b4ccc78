package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// server is the facade on a directory of its own.
type server struct {
	program, directory string
	process            *exec.Cmd
}

func (s *server) data() string        { return filepath.Join(s.directory, "data") }
func (s *server) socket() string      { return filepath.Join(s.directory, "socket") }
func (s *server) endpoints() []string { return []string{"unix://" + s.socket()} }

// start returns once the server takes connections.
func (s *server) start() error {
	// Progress is reported each second.
	s.process = exec.Command(s.program, s.data(), s.socket(), "1")
	s.process.Env = append(os.Environ(), "STRICT=1")
	s.process.Stderr = os.Stderr
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.process.Start(); err != nil {
		return fmt.Errorf("starting the facade: %w", err)
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if connection, err := net.Dial("unix", s.socket()); err == nil {
			return connection.Close()
		}
	}
	return errors.New("the facade takes no connections")
}

func (s *server) kill() {
	if s.process != nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
		s.process = nil
	}
}

// fault disturbs the server, with a second of undisturbed traffic before and after.
func (s *server) fault(name string) error {
	time.Sleep(time.Second)
	defer time.Sleep(time.Second)
	switch name {
	case "none":
	case "stop":
		defer func() { _ = s.process.Process.Signal(syscall.SIGCONT) }()
		if err := s.process.Process.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		time.Sleep(700 * time.Millisecond)
	case "kill", "kills":
		for range map[string]int{"kill": 1, "kills": 4}[name] {
			s.kill()
			if err := s.start(); err != nil {
				return err
			}
			time.Sleep(300 * time.Millisecond)
		}
	default:
		return fmt.Errorf("no fault is called %q", name)
	}
	return nil
}
