// Command ipamd stands for the ipamd of aws-node where there is no EC2: it sets up the node's network with the VPC CNI's own code,
// and gives the CNI plugin addresses of the node's network interfaces (ENIs).
//
// Usage: ipamd SUBNET ENI...
//
// Each ENI is LINK,ADDRESS,RANGE: its link, its own address, and the range of which its pods have theirs. The first is the
// primary one, with the table main; the tables of others count from 2. Pods get the ENIs in turn, so that those of a test meet all.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/aws/amazon-vpc-cni-k8s/pkg/networkutils"
	"github.com/aws/amazon-vpc-cni-k8s/rpc"
	"google.golang.org/grpc"
)

const (
	// The plugin has this path built in.
	socket    = "/var/run/aws-node/ipamd.sock"
	mainTable = 254
)

// eni is a network interface of the node.
type eni struct {
	link    *net.Interface
	address netip.Addr
	pods    netip.Prefix
	device  int
	table   int
}

// pool gives addresses to pods.
type pool struct {
	rpc.UnimplementedCNIBackendServer
	mutex  sync.Mutex
	subnet string
	enis   []eni
	given  map[string]*rpc.IPAllocationMetadata
	count  int
}

// AddNetwork gives a pod an address.
func (p *pool) AddNetwork(_ context.Context, request *rpc.AddNetworkRequest) (*rpc.AddNetworkReply, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	eni := p.enis[p.count%len(p.enis)]
	p.count++
	address, err := p.free(eni)
	if err != nil {
		return nil, err
	}
	given := &rpc.IPAllocationMetadata{IPv4Addr: address, DeviceNumber: int32(eni.device), RouteTableId: int32(eni.table)}
	p.given[request.ContainerID] = given
	log.Printf("%s/%s has %s of %s", request.K8S_POD_NAMESPACE, request.K8S_POD_NAME, address, eni.link.Name)
	return &rpc.AddNetworkReply{
		Success:              true,
		IPAllocationMetadata: []*rpc.IPAllocationMetadata{given},
		VPCv4CIDRs:           []string{p.subnet},
	}, nil
}

// DelNetwork takes a pod's address back.
func (p *pool) DelNetwork(_ context.Context, request *rpc.DelNetworkRequest) (*rpc.DelNetworkReply, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	reply := &rpc.DelNetworkReply{Success: true}
	if given, ok := p.given[request.ContainerID]; ok {
		reply.IPAllocationMetadata = append(reply.IPAllocationMetadata, given)
		delete(p.given, request.ContainerID)
	}
	return reply, nil
}

// free returns an address of the ENI that no pod has. It begins after the one given last, since packets to that may be on their way.
func (p *pool) free(eni eni) (string, error) {
	taken := map[string]bool{eni.address.String(): true, eni.pods.Addr().String(): true}
	for _, given := range p.given {
		taken[given.IPv4Addr] = true
	}
	var candidates []string
	for address := eni.pods.Addr(); eni.pods.Contains(address); address = address.Next() {
		candidates = append(candidates, address.String())
	}
	for index := range candidates {
		candidate := candidates[(p.count/len(p.enis)+index)%len(candidates)]
		if !taken[candidate] {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("no address of %s is free", eni.link.Name)
}

// parse reads LINK,ADDRESS,RANGE of the ENI with this device number.
func parse(text string, device int) eni {
	fields := strings.Split(text, ",")
	if len(fields) != 3 {
		log.Fatalf("%s is not LINK,ADDRESS,RANGE", text)
	}
	link, err := net.InterfaceByName(fields[0])
	must(err)
	table := mainTable
	if device > 0 {
		table = device + 1
	}
	return eni{link, netip.MustParseAddr(fields[1]), netip.MustParsePrefix(fields[2]), device, table}
}

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: ipamd SUBNET LINK,ADDRESS,RANGE...")
	}
	pool := &pool{subnet: os.Args[1], given: map[string]*rpc.IPAllocationMetadata{}}
	for device, text := range os.Args[2:] {
		pool.enis = append(pool.enis, parse(text, device))
	}
	network, err := networkutils.New()
	must(err)
	primary := net.IP(pool.enis[0].address.AsSlice())
	must(network.SetupHostNetwork([]string{pool.subnet}, pool.enis[0].link.HardwareAddr.String(), &primary, false, false))
	for _, eni := range pool.enis[1:] {
		hardware := eni.link.HardwareAddr.String()
		must(network.SetupENINetwork(eni.address.String(), hardware, 0, pool.subnet, len(pool.enis), false, eni.table, false))
	}
	must(os.MkdirAll("/var/run/aws-node", 0o755))
	// The socket of an earlier process.
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		log.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	must(err)
	server := grpc.NewServer()
	rpc.RegisterCNIBackendServer(server, pool)
	must(server.Serve(listener))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
