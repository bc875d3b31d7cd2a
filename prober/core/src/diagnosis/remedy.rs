//! The remedy of a cause at a place: steps with commands that can be pasted.

use super::catalogue::Cause;
use super::translation::bridge_sysctl;
use super::{PathSegment, Remedy};
use crate::diagnosis::hypothesis::Place;
use crate::packet::family::Family;

fn step<S: Into<String>>(summary: &str, commands: impl IntoIterator<Item = S>) -> Remedy {
    Remedy {
        summary: summary.to_owned(),
        commands: commands.into_iter().map(Into::into).collect(),
    }
}

/// The steps, the most likely first; the commands run as root on the node of the place.
pub(crate) fn remedy(cause: Cause, place: &Place) -> Vec<Remedy> {
    let tables = match place.family {
        Family::Ipv4 => "iptables",
        Family::Ipv6 => "ip6tables",
    };
    let ip = match place.family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ip -6",
    };
    match cause {
        Cause::BridgeNetfilterOff => bridge_netfilter(place),
        Cause::ReplyBypassesNat => vec![
            step(
                "Find what keeps replies from connection tracking: NOTRACK rules, or a return path that avoids this node.",
                [
                    format!("{tables}-save -t raw | grep -i -e notrack -e 'CT '"),
                    "nft list ruleset | grep -n notrack".to_owned(),
                ],
            ),
            step(
                "See whether connection tracking counts replies as invalid.",
                ["conntrack -S | grep -o 'invalid=[0-9]*'"],
            ),
        ],
        Cause::StaleRules | Cause::ServiceRulesMissing => vec![
            step(
                "Restart kube-proxy on this node: only a full sync writes every chain and jump again (changes of endpoints do not).",
                [kube_proxy_restart(place)],
            ),
            step(
                "See why it fell behind, before the log is gone.",
                [kube_proxy_log(place)],
            ),
        ],
        Cause::HairpinOff => vec![
            step(
                "Switch hairpin mode on at every pod's bridge port of this node.",
                ["for port in /sys/class/net/cni0/brif/*/hairpin_mode; do echo 1 > $port; done"],
            ),
            step(
                "Make it last: `hairpinMode: true` in the CNI configuration (new pods follow it), or the kubelet's --hairpin-mode=hairpin-veth.",
                ["grep -rn hairpin /etc/cni/net.d/"],
            ),
        ],
        Cause::MissingMasquerade => vec![
            step(
                "See whether the masquerade chain is empty or unhooked.",
                [format!(
                    "{tables} -t nat -S KUBE-POSTROUTING; {tables} -t nat -S POSTROUTING; {tables} -t nat -S KUBE-MARK-MASQ"
                )],
            ),
            step(
                "Have kube-proxy write its chains again.",
                [kube_proxy_restart(place)],
            ),
        ],
        Cause::ForwardDrop | Cause::NetworkPolicy | Cause::RejectReset => {
            filter(cause, place, tables)
        }
        Cause::RpFilter => vec![
            step(
                "Use loose reverse-path filtering (2) where the routes must stay asymmetric.",
                ["sysctl -w net.ipv4.conf.all.rp_filter=2"],
            ),
            step(
                "Better: find the asymmetric route, and make both directions use the same path.",
                [
                    "ip route show table all | grep -v local",
                    "nstat -az TcpExtIPReversePathFilter",
                ],
            ),
        ],
        Cause::ConntrackFull => vec![
            step(
                "Enlarge the table (about 320 bytes an entry) and see which sources fill it.",
                [
                    "sysctl -w net.netfilter.nf_conntrack_max=$((2*$(cat /proc/sys/net/netfilter/nf_conntrack_max)))",
                    "conntrack -L 2>/dev/null | grep -o 'src=[^ ]*' | sort | uniq -c | sort -rn | head",
                ],
            ),
            step(
                "Make it last: kube-proxy sets the limit at its start (conntrack.maxPerCore, conntrack.min in its configuration).",
                ["kubectl -n kube-system get configmap kube-proxy -o yaml | grep -n -A4 conntrack"],
            ),
        ],
        Cause::IpForwardOff => ip_forward(place.family),
        Cause::NoEndpoints => vec![step(
            "See which pods the Service selects and whether they are ready.",
            [
                "kubectl get endpointslices -l kubernetes.io/service-name=SERVICE -o wide",
                "kubectl get service SERVICE -o jsonpath='{.spec.selector}'",
            ],
        )],
        Cause::NoLocalEndpoint => vec![step(
            "Run a ready backend on this node, or let the Service leave the node (internalTrafficPolicy: Cluster).",
            [
                "kubectl get endpointslices -l kubernetes.io/service-name=SERVICE -o wide",
                "kubectl patch service SERVICE -p '{\"spec\":{\"internalTrafficPolicy\":\"Cluster\"}}'",
            ],
        )],
        Cause::StaleEndpoint => vec![
            step(
                "Compare the slice's addresses with the pods that are there; a hand-written slice must be corrected by hand.",
                [
                    "kubectl get endpointslices -l kubernetes.io/service-name=SERVICE -o yaml | grep -A1 addresses",
                    "kubectl get pods -A -o wide | grep ADDRESS",
                ],
            ),
            step(
                "If the slice is the controller's, delete it: it is written anew from the pods.",
                ["kubectl delete endpointslice SLICE"],
            ),
        ],
        Cause::NotListening => vec![step(
            "See what listens in the pod, on which address (127.0.0.1 is not enough) and port (targetPort).",
            [
                format!("kubectl exec {} -- ss -ltn", pod(place)),
                format!("kubectl logs --tail=50 {}", pod(place)),
            ],
        )],
        Cause::AcceptQueueFull => vec![step(
            "See whether the accept queue is full (Recv-Q above Send-Q) and why the process does not accept: stuck, or too small a backlog.",
            [
                format!("kubectl exec {} -- ss -ltn", pod(place)),
                format!(
                    "kubectl exec {} -- nstat -az TcpExtListenOverflows",
                    pod(place)
                ),
            ],
        )],
        Cause::EndpointFrozen => vec![step(
            "See whether the process is stopped (T), in uninterruptible sleep (D), or its cgroup frozen; then restart the pod.",
            [
                format!(
                    "kubectl exec {} -- cat /proc/1/status | grep State",
                    pod(place)
                ),
                format!("kubectl delete pod {}", pod(place)),
            ],
        )],
        Cause::DuplicateIp => vec![step(
            "Find the other host that has the address, and delete the pod that should not have it.",
            [
                "kubectl get pods -A -o wide | awk '{print $7}' | sort | uniq -d",
                "arping -D -I cni0 -c 2 ADDRESS",
                "ls /var/lib/cni/networks/",
            ],
        )],
        Cause::OverlayBlocked => vec![
            step(
                "Open the overlay's UDP port (flannel: 8472) between all nodes, both ways: host firewall and the cloud's security group.",
                [
                    format!("{tables} -S INPUT; {tables} -S OUTPUT"),
                    format!("{tables} -I INPUT -p udp --dport 8472 -j ACCEPT"),
                ],
            ),
            step(
                "See whether the outer packets arrive, on both nodes, while a probe runs.",
                ["tcpdump -ni any udp port 8472"],
            ),
        ],
        Cause::StaleOverlayNeighbour => vec![
            step(
                "Restart flanneld on this node: only its start writes neighbours and forwarding entries again.",
                [flannel_restart(place)],
            ),
            step(
                "Compare with what the peer announces.",
                [
                    "ip neigh show dev flannel.1; bridge fdb show dev flannel.1",
                    "kubectl get nodes -o custom-columns=N:.metadata.name,VTEP:.metadata.annotations.flannel\\\\.alpha\\\\.coreos\\\\.com/backend-data",
                ],
            ),
        ],
        Cause::RouteMissing => vec![
            step(
                "Restart flanneld on this node: setting the link up again does not bring its routes back.",
                [flannel_restart(place)],
            ),
            step(
                "See the routes to other nodes' pods.",
                [format!("{ip} route show; {ip} -d link show type vxlan")],
            ),
        ],
        Cause::MtuBlackHole => vec![
            step(
                "Compare the MTU of pods, bridge, tunnel and uplink on both nodes: vxlan takes 50 bytes (70 over IPv6) of the uplink's.",
                [
                    "ip -o link | grep -o '^[0-9]*: [^:]*\\|mtu [0-9]*' | paste - -",
                    "tracepath -n POD-ADDRESS",
                ],
            ),
            step(
                "Let ICMP fragmentation-needed (3/4) and ICMPv6 packet-too-big (2) through every filter.",
                [format!("{tables}-save | grep -i icmp")],
            ),
        ],
        Cause::PacketLoss => vec![step(
            "Look for drops at each hop of this stretch, then for the same on the physical path.",
            [
                "ip -s -s link",
                "ethtool -S eth0 | grep -i -e drop -e err -e discard",
                "tc -s qdisc",
            ],
        )],
        Cause::TransientOutage => vec![step(
            "See what was restored at that moment: flanneld, kube-proxy, a firewall service, a link.",
            ["journalctl --since '-10 min' | grep -i -e flannel -e proxy -e firewall -e 'link is'"],
        )],
    }
}

/// The steps for an address that belongs to no pod with a known name.
pub(crate) fn at_address(cause: Cause, place: &Place, address: &str) -> Vec<Remedy> {
    let (see, commands): (_, &[&str]) = if cause == Cause::NotListening {
        (
            "see what listens, on which address (127.0.0.1 is not enough for others) and port",
            &["ss -ltnp"],
        )
    } else if cause == Cause::AcceptQueueFull {
        (
            "see whether the accept queue is full (Recv-Q above Send-Q) and why the process does not accept",
            &["ss -ltnp", "nstat -az TcpExtListenOverflows"],
        )
    } else if cause == Cause::EndpointFrozen {
        (
            "see whether the process is stopped (T) or in uninterruptible sleep (D)",
            &["ps -eo pid,stat,comm"],
        )
    } else {
        return remedy(cause, place);
    };
    vec![step(
        &format!("Where {address} is served: {see}."),
        commands.iter().copied(),
    )]
}

fn pod(place: &Place) -> String {
    match &place.segment {
        PathSegment::Pod { pod } => pod.pod.clone(),
        PathSegment::Node { .. }
        | PathSegment::Between { .. }
        | PathSegment::Service
        | PathSegment::Namespace
        | PathSegment::Unknown => "POD".to_owned(),
    }
}

fn on_node(place: &Place) -> String {
    place
        .node
        .as_ref()
        .map_or_else(|| "NODE".to_owned(), ToString::to_string)
}

fn kube_proxy_restart(place: &Place) -> String {
    format!(
        "kubectl -n kube-system delete pod -l k8s-app=kube-proxy --field-selector spec.nodeName={}",
        on_node(place)
    )
}

fn kube_proxy_log(place: &Place) -> String {
    format!(
        "kubectl -n kube-system logs --tail=100 $(kubectl -n kube-system get pod -l k8s-app=kube-proxy --field-selector spec.nodeName={} -o name)",
        on_node(place)
    )
}

fn flannel_restart(place: &Place) -> String {
    format!(
        "kubectl -n kube-flannel delete pod -l app=flannel --field-selector spec.nodeName={}",
        on_node(place)
    )
}

fn bridge_netfilter(place: &Place) -> Vec<Remedy> {
    let sysctl = bridge_sysctl(place.family);
    let both = [bridge_sysctl(Family::Ipv4), bridge_sysctl(Family::Ipv6)];
    vec![
        step(
            "Switch it on now, on the node; connections work at once.",
            [
                "modprobe br_netfilter".to_owned(),
                format!("sysctl -w {sysctl}=1"),
            ],
        ),
        step(
            "Make it last across boots: the module first, then the sysctls that exist only with it.",
            [
                "echo br_netfilter > /etc/modules-load.d/br_netfilter.conf".to_owned(),
                format!(
                    "printf '{} = 1\\n{} = 1\\n' > /etc/sysctl.d/99-bridge-netfilter.conf",
                    both[0], both[1]
                ),
                "sysctl --system".to_owned(),
            ],
        ),
        step(
            "With kOps: in the cluster's manifest (kops edit cluster), then kops update cluster --yes and kops rolling-update cluster --yes.",
            [format!(
                "spec:\n  hooks:\n  - name: br-netfilter.service\n    before:\n    - network-pre.target\n    - kubelet.service\n    manifest: |\n      Type=oneshot\n      ExecStart=/usr/sbin/modprobe br_netfilter\n      ExecStart=/usr/sbin/sysctl -w {}=1 {}=1",
                both[0], both[1]
            )],
        ),
    ]
}

fn filter(cause: Cause, place: &Place, tables: &str) -> Vec<Remedy> {
    if place.segment == PathSegment::Namespace {
        return vec![
            step(
                "Probe from a namespace whose policies let pods connect to each other.",
                ["prober run --node NODE -n NAMESPACE"],
            ),
            step(
                "If these pods are to be reached: see what the policies allow, and allow the clients.",
                ["kubectl get networkpolicy -n NAMESPACE -o yaml"],
            ),
        ];
    }
    let mut steps = vec![step(
        "Find the rule: the one whose counter grows while a probe fails; its place in the chain decides.",
        [
            format!("watch -d -n1 \"{tables} -L FORWARD -nv --line-numbers\""),
            format!("{tables}-save -c | grep -i -e drop -e reject"),
            "nft list ruleset | grep -n -i -e drop -e reject".to_owned(),
        ],
    )];
    if cause == Cause::NetworkPolicy {
        steps.insert(
            0,
            step(
                "See which NetworkPolicies select the pod.",
                [
                    "kubectl get networkpolicy -A".to_owned(),
                    format!("kubectl get pod {} --show-labels", pod(place)),
                ],
            ),
        );
    } else {
        steps.push(step(
            "Accept pod traffic before that rule (flannel does so by itself while flanneld runs).",
            [format!(
                "{tables} -I FORWARD -i cni0 -j ACCEPT; {tables} -I FORWARD -o cni0 -j ACCEPT"
            )],
        ));
    }
    steps
}

fn ip_forward(family: Family) -> Vec<Remedy> {
    let sysctl = match family {
        Family::Ipv4 => "net.ipv4.ip_forward",
        Family::Ipv6 => "net.ipv6.conf.all.forwarding",
    };
    vec![
        step(
            "Switch forwarding on now, on the node.",
            [format!("sysctl -w {sysctl}=1")],
        ),
        step(
            "Make it last, and find what switched it off (a hardening profile, a network manager).",
            [
                format!("echo '{sysctl} = 1' > /etc/sysctl.d/99-forward.conf"),
                format!("grep -rn '{sysctl}' /etc/sysctl.conf /etc/sysctl.d /usr/lib/sysctl.d"),
            ],
        ),
    ]
}
