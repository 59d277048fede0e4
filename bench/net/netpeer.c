/* SPDX-License-Identifier: Apache-2.0 */
#include "net/netpeer.h"

#include "core/util.h"
#include "net/nic.h"

#include <errno.h>
#include <string.h>

/* A whole decimal port up to the end of the text. */
static int parse_port(const char *text, unsigned long least, uint16_t *ret)
{
	unsigned long port;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	port = strtoul(text, &end, 10);
	if (errno || *end || port < least || port > UINT16_MAX)
		return -EINVAL;
	*ret = (uint16_t)port;
	return 0;
}

static int parse_text(struct cvb_netpeer *p, char *text)
{
	char *echo = strstr(text, ",echo="), *host = text, *colon;
	size_t host_bytes;

	if (echo) {
		*echo = '\0';
		if (parse_port(echo + strlen(",echo="), 0, &p->echo_port) < 0)
			return -EINVAL;
	}
	colon = strrchr(text, ':');
	if (!colon)
		return -EINVAL;
	host_bytes = (size_t)(colon - text);
	if (host_bytes >= 2 && host[0] == '[' && host[host_bytes - 1] == ']') {
		host++;
		host_bytes -= 2;
	} else if (memchr(text, ':', host_bytes)) {
		return -EINVAL; /* an IPv6 address must be in brackets */
	}
	/* a host that starts with '-' would be an option of iperf3 */
	if (!host_bytes || host[0] == '-' || parse_port(colon + 1, p->echo_port ? 0 : 1, &p->port))
		return -EINVAL;
	p->host = strndup(host, host_bytes);
	return p->host ? 0 : -ENOMEM;
}

int cvb_netpeer_parse(struct cvb_netpeer *p, const char *text, struct cvb_err *err)
{
	_cleanup_free_ char *copy = strdup(text);
	int r;

	*p = (struct cvb_netpeer){0};
	r = copy ? parse_text(p, copy) : -ENOMEM;
	if (r == -ENOMEM)
		return cvb_err_set(err, r, "out of memory");
	if (r < 0)
		return cvb_err_set(err, r,
				   "peer \"%s\": HOST:PORT[,echo=PORT] is expected, such as "
				   "10.0.2.2:5201 or [::1]:5201,echo=7007",
				   text);
	return 0;
}

void cvb_netpeer_done(struct cvb_netpeer *p)
{
	free(p->host);
	*p = (struct cvb_netpeer){0};
}

bool cvb_netpeer_is_local(const struct cvb_netpeer *p)
{
	struct cvb_nic nic;

	return cvb_nic_towards(p->host, &nic, NULL) == 0 && nic.loopback;
}

void cvb_netpeer_note(struct cvb_run *run, const struct cvb_netpeer *p)
{
	struct cvb_err why = {0};
	struct cvb_nic nic;
	char text[256];

	if (cvb_nic_towards(p->host, &nic, &why) < 0) {
		cvb_err_text(&why, text, sizeof(text));
		cvb_run_note(run, "network interface unknown: %s", text);
		return;
	}
	if (nic.loopback)
		cvb_run_note(run,
			     "both ends run on this machine and share its CPUs; the loopback is "
			     "not a network: no device, no driver, no wire");
	cvb_run_note(run, "%s", cvb_nic_text(&nic, text, sizeof(text)));
}
