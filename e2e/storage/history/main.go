// Command history judges the embedded store by etcd's own robustness validators: traffic as Kubernetes makes it goes to
// the store's etcd facade while it is killed or stopped, and what every client saw must be linearizable and agree with
// what the store's log says was written; watches must be ordered, unique, atomic, reliable, resumable, bookmarkable and
// filtered, and stale reads those of their revision (go.etcd.io/etcd/tests/v3/robustness).
//
// Left out: etcd's own traffic. Keys of a lease that ends are deleted in revisions of their own here, which its model
// does not know, and Kubernetes gives one key to many leases at most.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"go.etcd.io/etcd/tests/v3/robustness/client"
	"go.etcd.io/etcd/tests/v3/robustness/identity"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/traffic"
	"go.etcd.io/etcd/tests/v3/robustness/validate"
)

// round is one history: which traffic, which fault.
type round struct {
	traffic string
	fault   string
}

var (
	traffics = map[string]traffic.Traffic{
		"Kubernetes": traffic.Kubernetes, "KubernetesCreateDelete": traffic.KubernetesCreateDelete,
	}
	profile = traffic.Profile{
		KeyValue: &traffic.KeyValueMedium, Watch: &traffic.WatchDefault, Compaction: &traffic.CompactionDefault,
	}
)

func main() {
	facade := flag.String("facade", "", "the etcd facade's program")
	store := flag.String("store", "", "corten-store, which prints the log")
	rounds := flag.Int("rounds", 8, "how many histories")
	plant := flag.String("plant", "", "damage to the history that must be found: lost, twice, value")
	keep := flag.String("keep", "", "where pictures of failed histories go")
	flag.Parse()
	failed, total := 0, counts{}
	for i := range *rounds {
		r := round{[]string{"Kubernetes", "KubernetesCreateDelete"}[i%2], []string{"kill", "stop", "kills", "none"}[i/2%4]}
		seen, err := r.run(*facade, *store, *plant, *keep)
		total.add(seen)
		if err != nil {
			failed++
			fmt.Printf("round %d, %s, %s: %v\n", i, r.traffic, r.fault, err)
		}
	}
	fmt.Printf("%d rounds, %d failed: %s\n", *rounds, failed, total)
	if (*plant != "") != (failed == *rounds) || (*plant == "" && failed > 0) {
		os.Exit(1)
	}
}

func (r round) run(facade, store, plant, keep string) (counts, error) {
	directory, err := os.MkdirTemp("", "history-")
	if err != nil {
		return counts{}, err
	}
	defer os.RemoveAll(directory)
	server := &server{program: facade, directory: directory}
	if err := server.start(); err != nil {
		return counts{}, err
	}
	defer server.kill()
	reports, err := r.observe(server)
	if err != nil {
		return count(reports), err
	}
	server.kill()
	persisted, err := persisted(store, server.data())
	if err != nil {
		return count(reports), err
	}
	seen := count(reports)
	seen.persisted = len(persisted)
	persisted, err = damaged(persisted, plant)
	if err != nil {
		return seen, err
	}
	config := validate.Config{ExpectRevisionUnique: traffics[r.traffic].ExpectUniqueRevision()}
	result := validate.ValidateAndReturnVisualize(zap.NewNop(), config, reports, persisted, 5*time.Minute)
	if result.Error() != nil && keep != "" {
		_ = result.Linearization.Visualize(zap.NewNop(), filepath.Join(keep, filepath.Base(directory)+".html"))
	}
	for _, one := range []validate.Result{result.Linearization.Result, result.Watch, result.Serializable} {
		if one.Status != validate.Success && result.Error() == nil {
			return seen, fmt.Errorf("a validator did not come to an end: %v", one)
		}
	}
	return seen, result.Error()
}

// observe runs the traffic with its fault and returns what each client saw.
func (r round) observe(s *server) ([]report.ClientReport, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ids, began := identity.NewIDProvider(), time.Now()
	clients, watchers := client.NewSet(ids, began), client.NewSet(ids, began)
	defer clients.Close()
	defer watchers.Close()
	last := make(chan int64, 1)
	var both errgroup.Group
	both.Go(func() error {
		defer close(last)
		err := r.play(ctx, s, clients)
		if err != nil {
			cancel()
			return err
		}
		last <- report.OperationsMaxRevision(clients.Reports())
		return nil
	})
	both.Go(func() error {
		return client.CollectClusterWatchEvents(ctx, client.CollectClusterWatchEventsParam{
			Lg: zap.NewNop(), Endpoints: s.endpoints(), MaxRevisionChan: last, ClientSet: watchers,
		})
	})
	err := both.Wait()
	return slices.Concat(clients.Reports(), watchers.Reports()), err
}

func (r round) play(ctx context.Context, s *server, clients *client.ClientSet) error {
	if err := traffic.CheckEmptyDatabaseAtStart(ctx, zap.NewNop(), s.endpoints(), clients); err != nil {
		return err
	}
	kind, finish := traffics[r.traffic], make(chan struct{})
	limiter := rate.NewLimiter(rate.Limit(profile.KeyValue.MaximalQPS), profile.KeyValue.BurstableQPS)
	keys, storage := traffic.NewKeyStore(10, "key"), traffic.NewKubernetesStorage()
	var running sync.WaitGroup
	err := traffic.SimulateKeyValueTraffic(ctx, &running, profile.KeyValue, s.endpoints(), clients, kind,
		traffic.RunTrafficLoopParam{
			QPSLimiter: limiter, IDs: clients.IdentityProvider(), LeaseIDStorage: identity.NewLeaseIDStorage(),
			NonUniqueRequestConcurrencyLimiter: traffic.NewConcurrencyLimiter(profile.KeyValue.MaxNonUniqueRequestConcurrency),
			KeyStore:                           keys, Storage: storage, Finish: finish,
		})
	if err != nil {
		return err
	}
	err = traffic.SimulateWatchTraffic(ctx, &running, profile.Watch, s.endpoints(), clients, kind, traffic.RunWatchLoopParam{
		Config: *profile.Watch, QPSLimiter: limiter, KeyStore: keys, Storage: storage, Finish: finish, Logger: zap.NewNop(),
	})
	if err != nil {
		return err
	}
	err = traffic.SimulateCompactionTraffic(ctx, &running, profile.Compaction, s.endpoints(), clients, kind,
		traffic.RunCompactLoopParam{Period: profile.Compaction.Period, Finish: finish})
	if err != nil {
		return err
	}
	err = s.fault(r.fault)
	close(finish)
	running.Wait()
	if err != nil {
		return err
	}
	return tombstone(ctx, s, clients)
}

// tombstone is the last write, which must succeed: the validators need an end.
func tombstone(ctx context.Context, s *server, clients *client.ClientSet) error {
	c, err := clients.NewClient(s.endpoints())
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Put(ctx, "tombstone", "true")
	return err
}

// counts tells how much the validators looked at.
type counts struct{ answered, failed, events, persisted int }

func (c *counts) add(o counts) {
	c.answered, c.failed, c.events = c.answered+o.answered, c.failed+o.failed, c.events+o.events
	c.persisted += o.persisted
}

func (c counts) String() string {
	return fmt.Sprintf("%d requests answered, %d without a known end, %d watch events, %d changes in the logs",
		c.answered, c.failed, c.events, c.persisted)
}

func count(reports []report.ClientReport) (c counts) {
	for _, one := range reports {
		for _, operation := range one.KeyValue {
			if operation.Output.(model.MaybeEtcdResponse).Error == "" {
				c.answered++
			} else {
				c.failed++
			}
		}
		for _, watch := range one.Watch {
			for _, response := range watch.Responses {
				c.events += len(response.Events)
			}
		}
	}
	return c
}
