/* SPDX-License-Identifier: Apache-2.0 */
#include "core/file.h"

#include "core/util.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#ifndef CVB_DATADIR
#define CVB_DATADIR "/usr/local/share/cvmbench"
#endif

/* All that can be read from fd, which is called `path`. */
static int read_all(int fd, const char *path, size_t max_bytes, char **ret_text, size_t *ret_bytes,
		    struct cvb_err *err)
{
	_cleanup_free_ char *buf = NULL;
	size_t used = 0, room = 0;

	for (;;) {
		if (used + 1 >= room) {
			size_t want = room ? room * 2 : 4096;
			char *bigger = realloc(buf, want);

			if (!bigger)
				return cvb_err_set(err, -ENOMEM, "out of memory reading %s", path);
			buf = bigger;
			room = want;
		}
		ssize_t n = read(fd, buf + used, room - used - 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return cvb_err_set(err, -errno, "cannot read %s: %s", path,
					   strerror(errno));
		if (n == 0)
			break;
		used += (size_t)n;
		if (used > max_bytes)
			return cvb_err_set(err, -EFBIG, "%s is larger than %zu bytes", path,
					   max_bytes);
	}
	buf[used] = '\0';
	*ret_text = CVB_TAKE(buf);
	if (ret_bytes)
		*ret_bytes = used;
	return 0;
}

/* O_NONBLOCK is for the open: one of a pipe would wait for a writer. */
static int read_regular(const char *path, int flags, size_t max_bytes, char **ret_text,
			size_t *ret_bytes, struct cvb_err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | flags);
	struct stat st;

	if (fd < 0 && errno == ELOOP && flags & O_NOFOLLOW)
		return cvb_err_set(err, -EINVAL, "%s is a link, which is not followed here", path);
	/* a socket, or a device that is not there */
	if (fd < 0 && errno != ENXIO && errno != ENODEV)
		return cvb_err_set(err, -errno, "cannot open %s: %s", path, strerror(errno));
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return cvb_err_set(err, -EINVAL, "%s is not a regular file", path);
	return read_all(fd, path, max_bytes, ret_text, ret_bytes, err);
}

int cvb_file_read(const char *path, size_t max_bytes, char **ret_text, size_t *ret_bytes,
		  struct cvb_err *err)
{
	return read_regular(path, 0, max_bytes, ret_text, ret_bytes, err);
}

int cvb_file_read_regular(const char *path, size_t max_bytes, char **ret_text, size_t *ret_bytes,
			  struct cvb_err *err)
{
	return read_regular(path, O_NOFOLLOW, max_bytes, ret_text, ret_bytes, err);
}

/* The descriptor that a path means, or -1: one that we were started with. */
static int inherited(const char *path)
{
	static const char folder[] = "/dev/fd/";
	const char *number = path + strlen(folder);
	unsigned long fd;
	char *end;

	if (!strcmp(path, "-") || !strcmp(path, "/dev/stdin"))
		return STDIN_FILENO;
	if (strncmp(path, folder, strlen(folder)) != 0 || *number < '0' || *number > '9')
		return -1;
	fd = strtoul(number, &end, 10);
	return *end || fd > INT_MAX ? -1 : (int)fd;
}

int cvb_file_read_input(const char *path, size_t max_bytes, char **ret_text, size_t *ret_bytes,
			struct cvb_err *err)
{
	int fd = inherited(path);

	return fd < 0 ? cvb_file_read(path, max_bytes, ret_text, ret_bytes, err)
		      : read_all(fd, fd == STDIN_FILENO ? "stdin" : path, max_bytes, ret_text,
				 ret_bytes, err);
}

int cvb_file_read_line(const char *path, char *buf, size_t buf_bytes)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	buf[0] = '\0';
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, buf, buf_bytes - 1);

	if (n < 0)
		return -errno;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return 0;
}

int cvb_file_read_u64(const char *path, uint64_t *ret)
{
	char text[64], *end;
	int r = cvb_file_read_line(path, text, sizeof(text));

	if (r < 0)
		return r;
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);

	if (errno || end == text || *end || text[0] == '-')
		return -EBADMSG;
	*ret = v;
	return 0;
}

static int write_all(int fd, const char *data, size_t bytes)
{
	while (bytes) {
		ssize_t n = write(fd, data, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		bytes -= (size_t)n;
	}
	return 0;
}

static void fsync_dir_of(const char *path)
{
	_cleanup_free_ char *dir = strdup(path);
	char *slash = dir ? strrchr(dir, '/') : NULL;

	if (!dir)
		return;
	if (slash)
		slash[slash == dir] = '\0';
	_cleanup_close_ int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		fsync(fd); /* some file systems refuse; the rename itself stands */
}

int cvb_file_write(const char *path, const void *data, size_t bytes, struct cvb_err *err)
{
	_cleanup_free_ char *tmp = cvb_strf("%s.tmp.XXXXXX", path);
	mode_t mask = umask(0);
	struct stat st;
	int r;

	umask(mask);
	if (!tmp)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
		return cvb_err_set(err, -EINVAL, "cannot write %s: it is not a file", path);
	/* a fresh name: a link that someone planted under a guessable one would be followed */
	int fd = mkostemp(tmp, O_CLOEXEC);

	if (fd < 0)
		return cvb_err_set(err, -errno, "cannot write %s: %s", path, strerror(errno));
	r = write_all(fd, data, bytes);
	if (r == 0 && fchmod(fd, 0644 & ~mask) < 0)
		r = -errno;
	if (r == 0 && fsync(fd) < 0 && errno != EINVAL && errno != EROFS)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(tmp);
		return cvb_err_set(err, r, "cannot write %s: %s", path, strerror(-r));
	}
	fsync_dir_of(path);
	return 0;
}

/* The text of a document; fresh memory, NULL with `err` set. */
static char *json_text(const char *path, const json_t *doc, struct cvb_err *err)
{
	_cleanup_free_ char *text = json_dumps(doc, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
	char *whole = text ? cvb_strf("%s\n", text) : NULL;

	if (!whole)
		cvb_err_set(err, -ENOMEM, "cannot encode JSON for %s", path);
	return whole;
}

int cvb_json_write(const char *path, const json_t *doc, struct cvb_err *err)
{
	_cleanup_free_ char *whole = json_text(path, doc, err);

	return whole ? cvb_file_write(path, whole, strlen(whole), err) : -ENOMEM;
}

/* Write to what is there and is no file: /dev/null, a terminal, a pipe.  Nothing to replace. */
static int write_stream(const char *path, const void *data, size_t bytes, struct cvb_err *err)
{
	/* O_NONBLOCK for the open only: a pipe without a reader must not hang us */
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int r;

	if (fd < 0)
		return cvb_err_set(err, -errno, "cannot write %s: %s", path, strerror(errno));
	r = fcntl(fd, F_SETFL, 0) < 0 ? -errno : write_all(fd, data, bytes);
	return r < 0 ? cvb_err_set(err, r, "cannot write %s: %s", path, strerror(-r)) : 0;
}

/* Is `path` what this descriptor has open, such as /dev/stdout where that is a file? */
static bool leads_to(const char *path, int fd)
{
	struct stat there, open_one;

	return stat(path, &there) == 0 && fstat(fd, &open_one) == 0 &&
	       there.st_dev == open_one.st_dev && there.st_ino == open_one.st_ino;
}

static int write_std(FILE *f, const char *text, struct cvb_err *err)
{
	if (fputs(text, f) < 0 || fflush(f) < 0)
		return cvb_err_set(err, -EIO, "cannot write to standard %s: %s",
				   f == stdout ? "output" : "error", strerror(errno));
	return 0;
}

int cvb_json_output(const char *path, const json_t *doc, struct cvb_err *err)
{
	_cleanup_free_ char *whole = json_text(path, doc, err);
	struct stat st;

	if (!whole)
		return -ENOMEM;
	/* to open it anew, or to replace the link, would be another file or another place in it */
	if (!strcmp(path, "-") || leads_to(path, STDOUT_FILENO))
		return write_std(stdout, whole, err);
	if (leads_to(path, STDERR_FILENO))
		return write_std(stderr, whole, err);
	if (stat(path, &st) == 0 && (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode)))
		return write_stream(path, whole, strlen(whole), err);
	return cvb_file_write(path, whole, strlen(whole), err);
}

int cvb_file_fresh(const char *path, mode_t mode, int *ret_fd, struct cvb_err *err)
{
	int fd;

	if (unlink(path) < 0 && errno != ENOENT)
		return cvb_err_set(err, -errno, "cannot replace %s: %s", path, strerror(errno));
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return cvb_err_set(err, -errno, "cannot make %s: %s", path, strerror(errno));
	*ret_fd = fd;
	return 0;
}

int cvb_mkdir_own(const char *path, struct cvb_err *err)
{
	struct stat st;

	if (mkdir(path, 0755) == 0)
		return 0;
	if (errno != EEXIST)
		return cvb_err_set(err, -errno, "cannot make folder %s: %s", path, strerror(errno));
	if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return cvb_err_set(err, -EINVAL, "%s is a link, or no folder", path);
	return 0;
}

int cvb_mkdir_all(const char *path, struct cvb_err *err)
{
	_cleanup_free_ char *p = strdup(path);

	if (!p)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (char *s = p + 1; *s; s++) {
		if (*s != '/')
			continue;
		*s = '\0';
		if (mkdir(p, 0755) < 0 && errno != EEXIST)
			return cvb_err_set(err, -errno, "cannot make folder %s: %s", p,
					   strerror(errno));
		*s = '/';
	}
	if (mkdir(p, 0755) < 0 && errno != EEXIST)
		return cvb_err_set(err, -errno, "cannot make folder %s: %s", p, strerror(errno));

	struct stat st;

	if (stat(p, &st) < 0 || !S_ISDIR(st.st_mode))
		return cvb_err_set(err, -ENOTDIR, "%s exists and is not a folder", p);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path) < 0 ? -errno : 0;
}

int cvb_remove_tree(const char *path)
{
	return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

char *cvb_exe_dir(void)
{
	char buf[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", buf, sizeof(buf) - 1);

	if (n <= 0)
		return NULL;
	buf[n] = '\0';
	char *slash = strrchr(buf, '/');

	if (!slash)
		return NULL;
	*slash = '\0';
	return strdup(buf);
}

char *cvb_data_path(const char *name, struct cvb_err *err)
{
	const char *env = getenv("CVMBENCH_DATADIR");
	_cleanup_free_ char *exe_dir = cvb_exe_dir();
	_cleanup_free_ char *tree = exe_dir ? cvb_strf("%s/..", exe_dir) : NULL;
	const char *const dirs[] = {env, tree, CVB_DATADIR};

	for (size_t i = 0; i < CVB_ARRAY_LEN(dirs); i++) {
		if (!dirs[i])
			continue;
		char *path = cvb_strf("%s/%s", dirs[i], name);

		if (path && access(path, R_OK) == 0)
			return path;
		free(path);
	}
	cvb_err_set(err, -ENOENT, "%s not found in %s%s%s or %s (set CVMBENCH_DATADIR)", name,
		    env ? env : "", env ? ", " : "", tree ? tree : ".", CVB_DATADIR);
	return NULL;
}
