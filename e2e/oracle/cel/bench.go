package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"syscall"

	"github.com/google/cel-go/cel"
	"k8s.io/apiserver/pkg/cel/library"
)

// Processor nanoseconds of the whole process, the collector of garbage included.
func processorTime() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

// Nanoseconds one call takes, over about half a second.
func measure(call func() error) (float64, error) {
	const enough = 500e6
	for n := 16; ; n *= 2 {
		start := processorTime()
		for range n {
			if err := call(); err != nil {
				return 0, err
			}
		}
		if spent := processorTime() - start; spent >= enough {
			return float64(spent) / float64(n), nil
		}
	}
}

// Prints what compiling (checking, estimating, planning) and evaluating each question of a file takes.
func bench(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewScanner(file)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var r request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			return err
		}
		s, err := prepare(&r)
		if err != nil {
			return err
		}
		vars, err := variables(&r, s)
		if err != nil {
			return err
		}
		var program cel.Program
		compile, err := measure(func() error {
			ast, issues := s.env.Compile(r.Expr)
			if err := issues.Err(); err != nil {
				return err
			}
			if _, err := s.env.EstimateCost(ast, &library.CostEstimator{SizeEstimator: s.sizes}); err != nil {
				return err
			}
			program, err = s.env.Program(ast, cel.CostLimit(1000000))
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", r.Expr, err)
		}
		evaluate, err := measure(func() error {
			_, _, err := program.Eval(vars)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", r.Expr, err)
		}
		fmt.Printf("%.0f %.0f\n", compile, evaluate)
	}
	return in.Err()
}
