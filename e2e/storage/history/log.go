package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"

	"go.etcd.io/etcd/tests/v3/robustness/model"
)

// change is a line of `corten-store log`.
type change struct {
	Put, Value, Delete []byte
	Compact, Jump      int64
	Grant, Revoke      int64
	Revision           int64
}

// persisted is what the store wrote, in its order, as etcd's model has it.
func persisted(program, directory string) ([]model.EtcdRequest, error) {
	out, err := exec.Command(program, "log", directory).Output()
	if err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	var requests []model.EtcdRequest
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 4<<20)
	for revision := int64(2); lines.Scan(); {
		var c change
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return nil, err
		}
		operation := model.EtcdOperation{}
		switch {
		case c.Put != nil:
			put := model.PutOptions{Key: string(c.Put), Value: model.ToValueOrHash(string(c.Value))}
			operation = model.EtcdOperation{Type: model.PutOperation, Put: put}
		case c.Delete != nil:
			operation = model.EtcdOperation{Type: model.DeleteOperation, Delete: model.DeleteOptions{Key: string(c.Delete)}}
		case c.Compact != 0:
			requests = append(requests, model.EtcdRequest{Type: model.Compact, Compact: &model.CompactRequest{Revision: c.Compact}})
			continue
		default:
			return nil, fmt.Errorf("this traffic does not do that: %s", lines.Text())
		}
		if c.Revision != revision {
			return nil, fmt.Errorf("revision %d of the log should be %d", c.Revision, revision)
		}
		revision++
		requests = append(requests, model.EtcdRequest{Type: model.Txn, Txn: &model.TxnRequest{
			OperationsOnSuccess: []model.EtcdOperation{operation},
		}})
	}
	return requests, lines.Err()
}

// damaged is the log with a planted error: a write that was lost, one done twice, one with another value.
func damaged(requests []model.EtcdRequest, how string) ([]model.EtcdRequest, error) {
	at := len(requests) / 2
	for at < len(requests) && (requests[at].Txn == nil || requests[at].Txn.OperationsOnSuccess[0].Type != model.PutOperation) {
		at++
	}
	if how != "" && at == len(requests) {
		return nil, fmt.Errorf("no write to damage")
	}
	switch how {
	case "":
	case "lost":
		requests = append(requests[:at:at], requests[at+1:]...)
	case "twice":
		requests = append(requests[:at+1:at+1], requests[at:]...)
	case "value":
		operation := requests[at].Txn.OperationsOnSuccess[0]
		operation.Put.Value = model.ToValueOrHash("another")
		requests[at].Txn = &model.TxnRequest{OperationsOnSuccess: []model.EtcdOperation{operation}}
	default:
		return nil, fmt.Errorf("no damage is called %q", how)
	}
	return requests, nil
}
