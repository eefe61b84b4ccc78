package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"
	drabeta "k8s.io/kubelet/pkg/apis/dra/v1beta1"
)

// Device is one device of an answer.
type Device struct {
	Requests []string `json:"requests,omitempty"`
	Pool     string   `json:"pool,omitempty"`
	Device   string   `json:"device,omitempty"`
	CDI      []string `json:"cdi,omitempty"`
	Share    *string  `json:"share,omitempty"`
}

// Answer is what a driver says of one claim.
type Answer struct {
	Devices []Device `json:"devices,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// Driver says what a driver answers from now on, by claim.
type Driver struct {
	Name      string            `json:"name"`
	Versions  []string          `json:"versions,omitempty"`
	Prepare   map[string]Answer `json:"prepare,omitempty"`
	Unprepare map[string]Answer `json:"unprepare,omitempty"`
	// Fails every call if not empty.
	Fails string `json:"fails,omitempty"`
}

// plugin serves one driver.
type plugin struct {
	dra.UnimplementedDRAPluginServer
	mutex sync.Mutex
	does  Driver
	calls []string
}

type betaPlugin struct {
	drabeta.UnimplementedDRAPluginServer
	*plugin
}

func (p *plugin) note(op, version string, claims []*dra.Claim) {
	var names []string
	for _, c := range claims {
		names = append(names, fmt.Sprintf("%s/%s=%s", c.Namespace, c.Name, c.Uid))
	}
	sort.Strings(names)
	p.calls = append(p.calls, fmt.Sprintf("%s %s %s %s", p.does.Name, version, op, strings.Join(names, " ")))
}

// asked tells whether an answer belongs to the request: if its claim is in there, or if it is marked to come anyway.
func asked(uid string, claims []*dra.Claim) (string, bool) {
	if rest, anyway := strings.CutPrefix(uid, "!"); anyway {
		return rest, true
	}
	for _, c := range claims {
		if c.Uid == uid {
			return uid, true
		}
	}
	return uid, false
}

func (p *plugin) prepare(version string, request *dra.NodePrepareResourcesRequest) (*dra.NodePrepareResourcesResponse, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.note("prepare", version, request.Claims)
	if p.does.Fails != "" {
		return nil, status.Error(codes.Internal, p.does.Fails)
	}
	out := &dra.NodePrepareResourcesResponse{Claims: map[string]*dra.NodePrepareResourceResponse{}}
	for uid, answer := range p.does.Prepare {
		uid, wanted := asked(uid, request.Claims)
		if !wanted {
			continue
		}
		one := &dra.NodePrepareResourceResponse{Error: answer.Error}
		for _, d := range answer.Devices {
			one.Devices = append(one.Devices, &dra.Device{RequestNames: d.Requests, PoolName: d.Pool, DeviceName: d.Device, CdiDeviceIds: d.CDI, ShareId: d.Share})
		}
		out.Claims[uid] = one
	}
	return out, nil
}

func (p *plugin) unprepare(version string, request *dra.NodeUnprepareResourcesRequest) (*dra.NodeUnprepareResourcesResponse, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.note("unprepare", version, request.Claims)
	if p.does.Fails != "" {
		return nil, status.Error(codes.Internal, p.does.Fails)
	}
	out := &dra.NodeUnprepareResourcesResponse{Claims: map[string]*dra.NodeUnprepareResourceResponse{}}
	for uid, answer := range p.does.Unprepare {
		uid, wanted := asked(uid, request.Claims)
		if !wanted {
			continue
		}
		out.Claims[uid] = &dra.NodeUnprepareResourceResponse{Error: answer.Error}
	}
	return out, nil
}

func (p *plugin) NodePrepareResources(_ context.Context, r *dra.NodePrepareResourcesRequest) (*dra.NodePrepareResourcesResponse, error) {
	return p.prepare("v1", r)
}

func (p *plugin) NodeUnprepareResources(_ context.Context, r *dra.NodeUnprepareResourcesRequest) (*dra.NodeUnprepareResourcesResponse, error) {
	return p.unprepare("v1", r)
}

func toV1(claims []*drabeta.Claim) []*dra.Claim {
	var out []*dra.Claim
	for _, c := range claims {
		out = append(out, &dra.Claim{Namespace: c.Namespace, Name: c.Name, Uid: c.Uid})
	}
	return out
}

func (p *betaPlugin) NodePrepareResources(_ context.Context, r *drabeta.NodePrepareResourcesRequest) (*drabeta.NodePrepareResourcesResponse, error) {
	answer, err := p.prepare("v1beta1", &dra.NodePrepareResourcesRequest{Claims: toV1(r.Claims)})
	if err != nil {
		return nil, err
	}
	out := &drabeta.NodePrepareResourcesResponse{Claims: map[string]*drabeta.NodePrepareResourceResponse{}}
	for uid, a := range answer.Claims {
		one := &drabeta.NodePrepareResourceResponse{Error: a.Error}
		for _, d := range a.Devices {
			one.Devices = append(one.Devices, &drabeta.Device{RequestNames: d.RequestNames, PoolName: d.PoolName, DeviceName: d.DeviceName, CdiDeviceIds: d.CdiDeviceIds})
		}
		out.Claims[uid] = one
	}
	return out, nil
}

func (p *betaPlugin) NodeUnprepareResources(_ context.Context, r *drabeta.NodeUnprepareResourcesRequest) (*drabeta.NodeUnprepareResourcesResponse, error) {
	answer, err := p.unprepare("v1beta1", &dra.NodeUnprepareResourcesRequest{Claims: toV1(r.Claims)})
	if err != nil {
		return nil, err
	}
	out := &drabeta.NodeUnprepareResourcesResponse{Claims: map[string]*drabeta.NodeUnprepareResourceResponse{}}
	for uid, a := range answer.Claims {
		out.Claims[uid] = &drabeta.NodeUnprepareResourceResponse{Error: a.Error}
	}
	return out, nil
}

// serve starts a driver's server and gives its socket.
func (p *plugin) serve(dir string) string {
	socket := filepath.Join(dir, p.does.Name+".sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		panic(err)
	}
	server := grpc.NewServer()
	dra.RegisterDRAPluginServer(server, p)
	drabeta.RegisterDRAPluginServer(server, &betaPlugin{plugin: p})
	go func() { _ = server.Serve(listener) }()
	return socket
}
