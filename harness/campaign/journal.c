/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/journal.h"

#include "core/stop.h"
#include "core/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* No line that we write comes near this; one that does is damage or an attack. */
#define LINE_MAX_BYTES (4 * CVB_MIB)

struct cvb_journal {
	int fd;
	char *path;
	off_t bytes; /* length up to the last whole line */
	bool broken; /* a failed write could not be undone */
};

/* Offset just after the last newline of the file, 0 if it has none; -errno. */
static off_t whole_lines_bytes(int fd, off_t size)
{
	char buf[64 * 1024];

	while (size > 0) {
		size_t want = (size_t)cvb_min(size, (off_t)sizeof(buf));
		ssize_t n = pread(fd, buf, want, size - (off_t)want);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if ((size_t)n != want)
			return -EIO; /* shrank under our hands */

		const char *nl = memrchr(buf, '\n', want);

		if (nl)
			return size - (off_t)want + (nl - buf) + 1;
		size -= (off_t)want;
	}
	return 0;
}

int cvb_journal_open(struct cvb_journal **ret, const char *path, struct cvb_err *err)
{
	_cleanup_close_ int fd =
		open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK, 0644);
	struct stat st;

	if (fd < 0)
		return cvb_err_set(err, -errno, "cannot open journal %s: %s", path,
				   strerror(errno));
	if (fstat(fd, &st) < 0)
		return cvb_err_set(err, -errno, "cannot look at journal %s: %s", path,
				   strerror(errno));
	if (!S_ISREG(st.st_mode))
		return cvb_err_set(err, -EINVAL, "journal %s is not a regular file", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return cvb_err_set(err, errno == EWOULDBLOCK ? -EBUSY : -errno,
				   "journal %s is in use by another campaign", path);

	off_t bytes = whole_lines_bytes(fd, st.st_size);

	if (bytes < 0)
		return cvb_err_set(err, (int)bytes, "cannot read journal %s: %s", path,
				   strerror((int)-bytes));
	if (bytes != st.st_size && ftruncate(fd, bytes) < 0)
		return cvb_err_set(err, -errno, "cannot cut the torn last line off %s: %s", path,
				   strerror(errno));
	if (lseek(fd, bytes, SEEK_SET) < 0)
		return cvb_err_set(err, -errno, "cannot seek in journal %s: %s", path,
				   strerror(errno));

	struct cvb_journal *j = calloc(1, sizeof(*j));

	if (j)
		j->path = strdup(path);
	if (!j || !j->path) {
		free(j);
		return cvb_err_set(err, -ENOMEM, "out of memory");
	}
	j->bytes = bytes;
	j->fd = CVB_TAKE_FD(fd);
	*ret = j;
	return 0;
}

bool cvb_journal_is_empty(const struct cvb_journal *j)
{
	return !j->bytes;
}

static int write_line(struct cvb_journal *j, const char *text, size_t bytes)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = write(j->fd, text + done, bytes - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

int cvb_journal_add(struct cvb_journal *j, json_t *line, struct cvb_err *err)
{
	_cleanup_json_ json_t *own = line;
	_cleanup_free_ char *text = NULL;
	int r;

	if (j->broken)
		return cvb_err_set(err, -EIO,
				   "journal %s has a half-written line that could not be removed",
				   j->path);
	if (!json_is_object(own))
		return cvb_err_set(err, -ENOMEM, "out of memory building a journal line");
	text = json_dumps(own, JSON_COMPACT | JSON_REAL_PRECISION(17));

	size_t bytes = text ? strlen(text) : 0;

	if (!text)
		return cvb_err_set(err, -ENOMEM, "cannot encode a journal line");
	if (bytes >= LINE_MAX_BYTES)
		return cvb_err_set(err, -EMSGSIZE, "a journal line of %zu bytes is over the limit",
				   bytes);
	text[bytes++] = '\n'; /* in place of the NUL */
	r = write_line(j, text, bytes);
	if (r < 0) {
		if (ftruncate(j->fd, j->bytes) < 0 || lseek(j->fd, j->bytes, SEEK_SET) < 0)
			j->broken = true;
		return cvb_err_set(err, r, "cannot write to journal %s: %s", j->path, strerror(-r));
	}
	j->bytes += (off_t)bytes;
	return 0;
}

int cvb_journal_sync(struct cvb_journal *j, struct cvb_err *err)
{
	int r;

	do {
		r = fdatasync(j->fd);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return cvb_err_set(err, -errno, "cannot make journal %s durable: %s", j->path,
				   strerror(errno));
	return 0;
}

struct cvb_journal *cvb_journal_close(struct cvb_journal *j)
{
	if (j) {
		close(j->fd);
		free(j->path);
		free(j);
	}
	return NULL;
}

/* One line without its newline into *buf; 1 a line, 0 the end (a torn last line included). */
static int read_line(FILE *f, char **buf, size_t *room, size_t *ret_bytes)
{
	size_t used = 0;
	int c;

	while ((c = getc_unlocked(f)) != EOF && c != '\n') {
		if (used == *room) {
			size_t want = *room ? *room * 2 : 4096;
			char *bigger = used >= LINE_MAX_BYTES ? NULL : realloc(*buf, want);

			if (!bigger)
				return used >= LINE_MAX_BYTES ? -EMSGSIZE : -ENOMEM;
			*buf = bigger;
			*room = want;
		}
		(*buf)[used++] = (char)c;
	}
	*ret_bytes = used;
	if (c == '\n')
		return 1;
	return ferror(f) ? -EIO : 0;
}

int cvb_journal_read(const char *path, cvb_journal_fn *fn, void *ctx, struct cvb_err *err)
{
	/* a bundle may come from anywhere: no link is followed, and no pipe waited for */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	_cleanup_fclose_ FILE *f = NULL;
	_cleanup_free_ char *buf = NULL;
	size_t room = 0, bytes = 0;
	struct stat st;
	int r;

	if (fd < 0)
		return cvb_err_set(err, -errno, "cannot open journal %s: %s", path,
				   strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return cvb_err_set(err, -EINVAL, "journal %s is not a regular file", path);
	f = fdopen(fd, "re");
	if (!f)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	fd = -1; /* the stream's now */
	for (size_t number = 1; (r = read_line(f, &buf, &room, &bytes)) > 0; number++) {
		json_error_t at;
		_cleanup_json_ json_t *line =
			json_loadb(bytes ? buf : "", bytes, JSON_REJECT_DUPLICATES, &at);

		if (cvb_stop_requested())
			return cvb_err_set(err, -EINTR, "interrupted while reading %s", path);
		if (!line)
			return cvb_err_set(err, -EBADMSG, "%s:%zu: not JSON: %s", path, number,
					   at.text);
		if (!json_is_object(line))
			return cvb_err_set(err, -EBADMSG, "%s:%zu: not a JSON object", path,
					   number);
		r = fn(line, number, ctx, err);
		if (r)
			return r;
	}
	if (r == -EMSGSIZE)
		return cvb_err_set(err, -EBADMSG, "%s: a line is longer than 4 MiB", path);
	if (r < 0)
		return cvb_err_set(err, r, "cannot read journal %s: %s", path, strerror(-r));
	return 0;
}
