/* SPDX-License-Identifier: Apache-2.0 */
#include "net/netpeer.h"

#include "core/util.h"

#include <errno.h>
#include <string.h>

int cvb_netpeer_parse(struct cvb_netpeer *p, const char *text, struct cvb_err *err)
{
	const char *colon = strrchr(text, ':'), *host = text;
	size_t host_bytes = colon ? (size_t)(colon - text) : 0;
	unsigned long port;
	char *end;

	if (host_bytes >= 2 && host[0] == '[' && host[host_bytes - 1] == ']') {
		host++;
		host_bytes -= 2;
	} else if (colon && memchr(text, ':', host_bytes)) {
		host_bytes = 0; /* an IPv6 address must be in brackets */
	}
	/* a host that starts with '-' would be an option of iperf3 */
	if (!host_bytes || host[0] == '-' || colon[1] < '0' || colon[1] > '9')
		goto bad;
	errno = 0;
	port = strtoul(colon + 1, &end, 10);
	if (errno || *end || port < 1 || port > UINT16_MAX)
		goto bad;
	p->host = strndup(host, host_bytes);
	if (!p->host)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	p->port = (uint16_t)port;
	return 0;
bad:
	return cvb_err_set(
		err, -EINVAL,
		"peer \"%s\": HOST:PORT is expected, such as 10.0.2.2:5201 or [::1]:5201", text);
}

void cvb_netpeer_done(struct cvb_netpeer *p)
{
	free(p->host);
	*p = (struct cvb_netpeer){0};
}
