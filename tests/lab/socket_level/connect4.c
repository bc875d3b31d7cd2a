// Translates the test Service's ClusterIP inside connect(2), as a kube-proxy replacement does:
// packets of the socket have the pod's address, and a crafted SYN to the ClusterIP is not translated.
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define CLUSTER_IP 0x64431e85 /* 100.67.30.133 */
#define SERVER_OF_NODE_0 0x64600014 /* 100.96.0.20; node k adds k << 8 */
#define FIRST_SLOT 9000
#define ANY 80
#define NODES 2

SEC("cgroup/connect4")
int translate(struct bpf_sock_addr *ctx)
{
	if (ctx->user_ip4 != bpf_htonl(CLUSTER_IP))
		return 1;
	__u16 port = bpf_ntohs(ctx->user_port);
	__u32 slot;
	if (port == ANY)
		slot = bpf_get_prandom_u32() % NODES;
	else if (port >= FIRST_SLOT && port < FIRST_SLOT + NODES)
		slot = port - FIRST_SLOT;
	else
		return 1;
	ctx->user_ip4 = bpf_htonl(SERVER_OF_NODE_0 | (slot + 1) << 8);
	ctx->user_port = bpf_htons(8080);
	return 1;
}
