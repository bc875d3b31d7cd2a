// Translates the address of a Service inside connect(2), as the socket-level load balancers of kube-proxy replacements do:
// the packets of a socket have the address of a server from the first SYN on.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define SERVERS 16

// An address and port in network byte order; an IPv4 address is in the first word.
struct endpoint {
	__u32 address[4];
	__u32 port;
};

struct servers {
	__u32 count;
	struct endpoint at[SERVERS];
};

// The servers of each address and port of a Service: main.go keeps them.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct endpoint);
	__type(value, struct servers);
} services SEC(".maps");

// Replaces the endpoint by one of its servers. Returns what connect(2) does then: 1 to go on, 0 to fail with EPERM.
static __always_inline int translate(struct endpoint *endpoint)
{
	struct servers *servers = bpf_map_lookup_elem(&services, endpoint);
	if (!servers)
		return 1;
	__u32 count = servers->count;
	if (count == 0)
		return 0;
	*endpoint = servers->at[bpf_get_prandom_u32() % count & (SERVERS - 1)];
	return 1;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct endpoint endpoint = { .address = { ctx->user_ip4 }, .port = ctx->user_port };
	int verdict = translate(&endpoint);
	ctx->user_ip4 = endpoint.address[0];
	ctx->user_port = endpoint.port;
	return verdict;
}

// The verifier allows only constant offsets into a context: volatile, since the compiler would keep the address of the array.
SEC("cgroup/connect6")
int connect6(volatile struct bpf_sock_addr *ctx)
{
	struct endpoint endpoint = {
		.address = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] },
		.port = ctx->user_port,
	};
	int verdict = translate(&endpoint);
	ctx->user_ip6[0] = endpoint.address[0];
	ctx->user_ip6[1] = endpoint.address[1];
	ctx->user_ip6[2] = endpoint.address[2];
	ctx->user_ip6[3] = endpoint.address[3];
	ctx->user_port = endpoint.port;
	return verdict;
}

char _license[] SEC("license") = "GPL";
