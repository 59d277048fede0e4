/* SPDX-License-Identifier: Apache-2.0 */
#include "net/nic.h"

#include "core/file.h"
#include "core/util.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>

#define DISCARD_PORT "9"

static const char *const offload_names[CVB_NIC_OFFLOADS] = {
	[CVB_NIC_TX_CSUM] = "tx checksum",
	[CVB_NIC_RX_CSUM] = "rx checksum",
	[CVB_NIC_TSO] = "tso",
	[CVB_NIC_GSO] = "gso",
	[CVB_NIC_GRO] = "gro",
	[CVB_NIC_LRO] = "lro",
};

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
	if (!a || !b || a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
		       ((const struct sockaddr_in *)b)->sin_addr.s_addr;
	return a->sa_family == AF_INET6 &&
	       !memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
		       &((const struct sockaddr_in6 *)b)->sin6_addr, sizeof(struct in6_addr));
}

/* The address that packets to `to` would come from. */
static int source_address(const struct addrinfo *to, struct sockaddr_storage *ret,
			  struct cvb_err *err)
{
	_cleanup_close_ int fd = socket(to->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*ret);

	/* on a datagram socket this only looks up the route */
	if (fd < 0 || connect(fd, to->ai_addr, to->ai_addrlen) < 0 ||
	    getsockname(fd, (struct sockaddr *)ret, &len) < 0)
		return cvb_err_set(err, -EHOSTUNREACH, "no route to the peer: %s", strerror(errno));
	return 0;
}

static int find_name(const struct sockaddr *source, char name[static IF_NAMESIZE],
		     struct cvb_err *err)
{
	struct ifaddrs *all, *a;

	if (getifaddrs(&all) < 0)
		return cvb_err_set(err, -errno, "cannot list the network interfaces: %s",
				   strerror(errno));
	for (a = all; a && !same_address(a->ifa_addr, source); a = a->ifa_next)
		;
	if (a)
		snprintf(name, IF_NAMESIZE, "%s", a->ifa_name);
	freeifaddrs(all);
	return a ? 0
		 : cvb_err_set(err, -EHOSTUNREACH, "no interface has the route's source address");
}

/* A packet to an address of our own goes through "lo", whatever interface has the address. */
static bool is_loopback(const struct sockaddr *source, const struct sockaddr *to)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)to;

	return same_address(source, to) ||
	       (to->sa_family == AF_INET && ntohl(v4->sin_addr.s_addr) >> 24 == 127);
}

static int ask_value(int fd, struct ifreq *req, uint32_t command)
{
	struct ethtool_value v = {.cmd = command};

	req->ifr_data = (void *)&v;
	return ioctl(fd, SIOCETHTOOL, req) < 0 ? -1 : (int)(v.data != 0);
}

static void ask_driver(struct cvb_nic *nic)
{
	static const uint32_t commands[] = {
		[CVB_NIC_TX_CSUM] = ETHTOOL_GTXCSUM, [CVB_NIC_RX_CSUM] = ETHTOOL_GRXCSUM,
		[CVB_NIC_TSO] = ETHTOOL_GTSO,	     [CVB_NIC_GSO] = ETHTOOL_GGSO,
		[CVB_NIC_GRO] = ETHTOOL_GGRO,
	};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ethtool_value flags = {.cmd = ETHTOOL_GFLAGS};
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
	struct ifreq req = {0};

	for (size_t i = 0; i < CVB_NIC_OFFLOADS; i++)
		nic->offload[i] = -1;
	if (fd < 0)
		return;
	memcpy(req.ifr_name, nic->name, sizeof(nic->name));
	for (size_t i = 0; i < CVB_ARRAY_LEN(commands); i++)
		nic->offload[i] = ask_value(fd, &req, commands[i]);
	req.ifr_data = (void *)&flags;
	if (ioctl(fd, SIOCETHTOOL, &req) == 0)
		nic->offload[CVB_NIC_LRO] = (flags.data & ETH_FLAG_LRO) != 0;
	req.ifr_data = (void *)&info;
	if (ioctl(fd, SIOCETHTOOL, &req) == 0)
		snprintf(nic->driver, sizeof(nic->driver), "%.31s", info.driver);
}

static long sysfs_number(const char *name, const char *key)
{
	_cleanup_free_ char *path = cvb_strf("/sys/class/net/%s/%s", name, key);
	uint64_t v;

	/* a device without a speed says -1 or nothing */
	return path && cvb_file_read_u64(path, &v) == 0 && v < INT32_MAX ? (long)v : 0;
}

int cvb_nic_towards(const char *host, struct cvb_nic *ret, struct cvb_err *err)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_DGRAM};
	struct sockaddr_storage source;
	struct addrinfo *to = NULL;
	int r = getaddrinfo(host, DISCARD_PORT, &hints, &to);

	*ret = (struct cvb_nic){0};
	if (r)
		return cvb_err_set(err, -EIO, "host %s: %s", host, gai_strerror(r));
	r = source_address(to, &source, err);
	if (r == 0) {
		ret->loopback = is_loopback((struct sockaddr *)&source, to->ai_addr);
		if (ret->loopback)
			snprintf(ret->name, sizeof(ret->name), "lo");
		else
			r = find_name((struct sockaddr *)&source, ret->name, err);
	}
	freeaddrinfo(to);
	if (r < 0)
		return r;
	ask_driver(ret);
	ret->mtu = sysfs_number(ret->name, "mtu");
	ret->speed_mbps = sysfs_number(ret->name, "speed");
	return 0;
}

const char *cvb_nic_text(const struct cvb_nic *nic, char *buf, size_t buf_bytes)
{
	char speed[32] = "unknown";
	size_t used;

	if (nic->speed_mbps)
		snprintf(speed, sizeof(speed), "%ld Mbit/s", nic->speed_mbps);
	snprintf(buf, buf_bytes, "interface %s: driver %s, mtu %ld, speed %s", nic->name,
		 *nic->driver ? nic->driver : "unknown", nic->mtu, speed);
	for (size_t i = 0; i < CVB_NIC_OFFLOADS; i++) {
		used = strlen(buf);
		snprintf(buf + used, buf_bytes - used, ", %s %s", offload_names[i],
			 nic->offload[i] < 0 ? "unknown"
			 : nic->offload[i]   ? "on"
					     : "off");
	}
	return buf;
}
