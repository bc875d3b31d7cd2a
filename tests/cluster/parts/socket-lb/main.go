// Command socket-lb translates the Services of a cluster inside connect(2), for all sockets of one node.
//
// Usage: socket-lb NODE CGROUP
//
// CGROUP is the node's cgroup in the unified hierarchy. The program that it attaches there stays when this process ends or stops,
// with the servers that it knew last, and is replaced when the process starts again. KUBECONFIG is the file of that name.
package main

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"log"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// The program, which the build makes of bpf/connect.c.
//
//go:embed connect.o
var object []byte

// endpoint is the key of the program's map: an address and port in network byte order.
type endpoint struct {
	Address [16]byte
	Port    [2]byte
	_       [2]byte
}

// servers is the value of the program's map.
type servers struct {
	Count uint32
	At    [16]endpoint
}

// programs are those of bpf/connect.c, and their map.
type programs struct {
	Connect4 *ebpf.Program `ebpf:"connect4"`
	Connect6 *ebpf.Program `ebpf:"connect6"`
	Services *ebpf.Map     `ebpf:"services"`
}

// cluster is what the API server has.
type cluster struct {
	node     string
	services interface {
		List(labels.Selector) ([]*core.Service, error)
	}
	slices interface {
		List(labels.Selector) ([]*discovery.EndpointSlice, error)
	}
	nodes interface {
		List(labels.Selector) ([]*core.Node, error)
	}
}

func main() {
	node, cgroup := os.Args[1], os.Args[2]
	// The root of the hierarchy, which has every process of the machine, has no such file.
	if _, err := os.Stat(filepath.Join(cgroup, "cgroup.type")); err != nil {
		log.Fatalf("%s is not the cgroup of a node: %v", cgroup, err)
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	must(err)
	var loaded programs
	must(spec.LoadAndAssign(&loaded, nil))

	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	must(err)
	factory := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(config), 0)
	known := cluster{
		node:     node,
		services: factory.Core().V1().Services().Lister(),
		slices:   factory.Discovery().V1().EndpointSlices().Lister(),
		nodes:    factory.Core().V1().Nodes().Lister(),
	}
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { notify() },
		UpdateFunc: func(any, any) { notify() },
		DeleteFunc: func(any) { notify() },
	}
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().Services().Informer(),
		factory.Discovery().V1().EndpointSlices().Informer(),
		factory.Core().V1().Nodes().Informer(),
	} {
		_, err := informer.AddEventHandler(handler)
		must(err)
	}
	factory.Start(nil)
	factory.WaitForCacheSync(nil)

	have := map[endpoint]servers{}
	have = write(loaded.Services, have, known.translations())
	attach(cgroup, ebpf.AttachCGroupInet4Connect, loaded.Connect4)
	attach(cgroup, ebpf.AttachCGroupInet6Connect, loaded.Connect6)
	log.Print("attached")
	for range changed {
		have = write(loaded.Services, have, known.translations())
		// Nodes renew their status all the time, and changes of a rollout come together.
		time.Sleep(50 * time.Millisecond)
	}
}

// attach attaches a program to the cgroup, in the place of the one of an earlier process.
func attach(cgroup string, at ebpf.AttachType, program *ebpf.Program) {
	folder, err := os.Open(cgroup)
	must(err)
	defer folder.Close()
	must(link.RawAttachProgram(link.RawAttachProgramOptions{Target: int(folder.Fd()), Program: program, Attach: at}))
}

// write makes the map hold what is wanted, and returns that.
func write(services *ebpf.Map, have, want map[endpoint]servers) map[endpoint]servers {
	for key, value := range want {
		if old, ok := have[key]; !ok || old != value {
			must(services.Put(&key, &value))
		}
	}
	for key := range have {
		if _, ok := want[key]; !ok {
			must(services.Delete(&key))
		}
	}
	return want
}

// translations returns the servers of every address and port at which a socket of the node reaches a Service.
func (c cluster) translations() map[endpoint]servers {
	services, err := c.services.List(labels.Everything())
	must(err)
	nodes, err := c.nodes.List(labels.Everything())
	must(err)
	all := map[endpoint]servers{}
	for _, service := range services {
		isLocal := service.Spec.InternalTrafficPolicy != nil && *service.Spec.InternalTrafficPolicy == core.ServiceInternalTrafficPolicyLocal
		for _, port := range service.Spec.Ports {
			if port.Protocol != core.ProtocolTCP {
				continue
			}
			ready := map[bool]servers{}
			for _, is6 := range []bool{false, true} {
				ready[is6] = c.ready(service, port.Name, is6, isLocal)
			}
			add := func(text string, port int32) {
				if address, err := netip.ParseAddr(text); err == nil && port != 0 {
					all[at(address, port)] = ready[address.Is6()]
				}
			}
			for _, address := range service.Spec.ClusterIPs {
				add(address, port.Port)
			}
			for _, node := range nodes {
				for _, address := range node.Status.Addresses {
					if address.Type == core.NodeInternalIP {
						add(address.Address, port.NodePort)
					}
				}
			}
		}
	}
	return all
}

// ready returns the servers of a Service's port in one family; only those of this node if the Service is local.
func (c cluster) ready(service *core.Service, port string, is6, isLocal bool) servers {
	slices, err := c.slices.List(labels.SelectorFromSet(labels.Set{discovery.LabelServiceName: service.Name}))
	must(err)
	var ready servers
	for _, slice := range slices {
		if slice.Namespace != service.Namespace || (slice.AddressType == discovery.AddressTypeIPv6) != is6 {
			continue
		}
		for _, target := range slice.Ports {
			if target.Port == nil || target.Name != nil && *target.Name != port {
				continue
			}
			for _, server := range slice.Endpoints {
				isReady := server.Conditions.Ready == nil || *server.Conditions.Ready
				isHere := server.NodeName != nil && *server.NodeName == c.node
				address, err := netip.ParseAddr(server.Addresses[0])
				if !isReady || isLocal && !isHere || err != nil || int(ready.Count) == len(ready.At) {
					continue
				}
				ready.At[ready.Count] = at(address, *target.Port)
				ready.Count++
			}
		}
	}
	return ready
}

func at(address netip.Addr, port int32) endpoint {
	var at endpoint
	copy(at.Address[:], address.AsSlice())
	binary.BigEndian.PutUint16(at.Port[:], uint16(port))
	return at
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
