/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network interface that packets to an address leave by, and what it takes off the CPU: a
 * bandwidth means little without it.
 */
#ifndef CVB_BENCH_NET_NIC_H
#define CVB_BENCH_NET_NIC_H

#include "core/err.h"

#include <stddef.h>

enum cvb_nic_offload {
	CVB_NIC_TX_CSUM,
	CVB_NIC_RX_CSUM,
	CVB_NIC_TSO,
	CVB_NIC_GSO,
	CVB_NIC_GRO,
	CVB_NIC_LRO,
	CVB_NIC_OFFLOADS,
};

struct cvb_nic {
	bool loopback; /* the address is this machine's, by whatever interface it is known */
	char name[16];
	char driver[32];	       /* "" unknown */
	long mtu;		       /* bytes, 0 unknown */
	long speed_mbps;	       /* as the driver claims, 0 unknown */
	int offload[CVB_NIC_OFFLOADS]; /* 1 on, 0 off, -1 unknown */
};

/* Asks the kernel for the route, sends nothing.  -EHOSTUNREACH without one, -EIO for a name that
 * does not resolve. */
CVB_MUST_CHECK int cvb_nic_towards(const char *host, struct cvb_nic *ret, struct cvb_err *err);

/* "eth0: driver virtio_net, mtu 1500, speed unknown, tx checksum on, …".  Returns buf. */
const char *cvb_nic_text(const struct cvb_nic *nic, char *buf, size_t buf_bytes);

#endif
