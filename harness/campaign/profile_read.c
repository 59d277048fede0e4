/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of a profile into its struct.
 */
#include "campaign/profile_part.h"
#include "core/util.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <string.h>

bool cvb_profile_good_name(const char *name)
{
	if (!isalnum((unsigned char)*name) || strlen(name) > 63)
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("._-", *name))
			return false;
	return true;
}

enum section {
	SECTION_NONE,
	SECTION_PROFILE,
	SECTION_ARM,
	SECTION_BENCH,
	SECTION_GATE,
};

struct reader {
	struct cvb_profile *p;
	const char *at; /* rest of the text */
	unsigned line;	/* number of the line handed out last */
	enum section section;
	size_t index;	  /* of the arm, bench or gate that the section fills */
	char header[128]; /* current section's name */
	json_t *lines;	  /* "header] key" -> number of the line that set it */
	int r;
	struct cvb_err *err;
};

static int begin_arm(struct reader *rd, const char *name)
{
	struct cvb_profile *p = rd->p;

	if (p->n_arms == CVB_PROFILE_MAX_ARMS)
		return cvb_err_set(rd->err, -EINVAL, "more than %d arms", CVB_PROFILE_MAX_ARMS);
	if (cvb_profile_arm(p, name) >= 0)
		return cvb_err_set(rd->err, -EINVAL, "arm %s is there twice", name);
	struct cvb_arm *arm = &p->arms[p->n_arms];

	rd->index = p->n_arms++;
	arm->name = strdup(name);
	if (!arm->name)
		return cvb_err_set(rd->err, -ENOMEM, "out of memory");
	return cvb_opts_defaults(cvb_arm_opts, arm, rd->err);
}

static int begin_bench(struct reader *rd, const char *name)
{
	struct cvb_profile *p = rd->p;
	struct cvb_profile_bench *b = &p->benches[p->n_benches];
	const struct cvb_bench *bench;

	if (p->n_benches == CVB_PROFILE_MAX_BENCHES)
		return cvb_err_set(rd->err, -EINVAL, "more than %d benchmarks",
				   CVB_PROFILE_MAX_BENCHES);
	bench = cvb_bench_find(name, rd->err);
	if (!bench)
		return -EINVAL;
	for (size_t i = 0; i < p->n_benches; i++)
		if (p->benches[i].bench == bench)
			return cvb_err_set(rd->err, -EINVAL, "benchmark %s is there twice", name);
	rd->index = p->n_benches++;
	b->bench = bench;
	b->line = rd->line;
	b->options = json_object();
	return cvb_opts_defaults(cvb_profile_bench_opts, b, rd->err);
}

static int begin_gate(struct reader *rd, const char *id)
{
	struct cvb_profile *p = rd->p;
	struct cvb_gate *g = &p->gates[p->n_gates];

	if (p->n_gates == CVB_PROFILE_MAX_GATES)
		return cvb_err_set(rd->err, -EINVAL, "more than %d gates", CVB_PROFILE_MAX_GATES);
	for (size_t i = 0; i < p->n_gates; i++)
		if (!strcmp(p->gates[i].id, id))
			return cvb_err_set(rd->err, -EINVAL, "gate %s is there twice", id);
	rd->index = p->n_gates++;
	g->line = rd->line;
	g->id = strdup(id);
	if (!g->id)
		return cvb_err_set(rd->err, -ENOMEM, "out of memory");
	return cvb_opts_defaults(cvb_profile_gate_opts, g, rd->err);
}

static int begin_section(struct reader *rd, const char *header)
{
	static const struct {
		const char *word;
		enum section section;
		int (*begin)(struct reader *, const char *);
	} kinds[] = {{"arm", SECTION_ARM, begin_arm},
		     {"bench", SECTION_BENCH, begin_bench},
		     {"gate", SECTION_GATE, begin_gate}};
	const char *name = strchr(header, ' ');

	snprintf(rd->header, sizeof(rd->header), "%s", header);
	rd->section = SECTION_NONE;
	if (!strcmp(header, "profile")) {
		rd->section = SECTION_PROFILE;
		return 0;
	}
	for (size_t i = 0; name && i < CVB_ARRAY_LEN(kinds); i++) {
		if (strlen(kinds[i].word) != (size_t)(name - header) ||
		    strncmp(header, kinds[i].word, (size_t)(name - header)) != 0)
			continue;
		if (!cvb_profile_good_name(name + 1))
			return cvb_err_set(rd->err, -EINVAL,
					   "[%s]: a name is letters, digits, '.', '_' and '-', "
					   "and at most 63 of them",
					   header);
		int r = kinds[i].begin(rd, name + 1);

		if (r == 0)
			rd->section = kinds[i].section;
		return r;
	}
	return cvb_err_set(rd->err, -EINVAL,
			   "unknown section [%s]: expected [profile], [arm NAME], [bench NAME] or "
			   "[gate ID]",
			   header);
}

/* `like` copies the other arm's keys at once, so it must be the section's first key. */
static int arm_like(struct reader *rd, const char *other)
{
	struct cvb_profile *p = rd->p;
	struct cvb_arm *arm = &p->arms[rd->index];
	int from = cvb_profile_arm(p, other);

	if (from < 0 || (size_t)from == rd->index)
		return cvb_err_set(rd->err, -EINVAL, "like = %s: no arm of that name above", other);
	for (const struct cvb_opt *o = cvb_arm_opts; o->name; o++) {
		const char *field = (const char *)&p->arms[from] + o->offset;
		int r = 0;

		if (!strcmp(o->name, "like") || !strcmp(o->name, "aa_of"))
			continue;
		if (o->type == CVB_OPT_STR) {
			if (*(char *const *)field)
				r = cvb_opt_set(cvb_arm_opts, arm, o->name, *(char *const *)field,
						rd->err);
		} else {
			size_t bytes = o->type == CVB_OPT_FLAG	   ? sizeof(bool)
				       : o->type == CVB_OPT_CHOICE ? sizeof(int)
								   : sizeof(uint64_t);

			memcpy((char *)arm + o->offset, field, bytes);
		}
		if (r < 0)
			return r;
	}
	return cvb_opt_set(cvb_arm_opts, arm, "like", other, rd->err);
}

static int set_bench_key(struct reader *rd, const char *key, const char *value)
{
	struct cvb_profile_bench *b = &rd->p->benches[rd->index];
	int r;

	if (cvb_opt_find(cvb_profile_bench_opts, key))
		return cvb_opt_set(cvb_profile_bench_opts, b, key, value, rd->err);

	/* parse it now, so that a mistake is told with its line and before anything boots */
	void *conf = calloc(1, b->bench->conf_size ? b->bench->conf_size : 1);

	if (!conf)
		return cvb_err_set(rd->err, -ENOMEM, "out of memory");
	r = cvb_opt_set(b->bench->opts, conf, key, value, rd->err);
	cvb_opts_done(b->bench->opts, conf);
	free(conf);
	if (r == 0)
		json_object_set_new(b->options, key, json_string(value));
	return r;
}

static int set_key(struct reader *rd, const char *key, const char *value)
{
	struct cvb_profile *p = rd->p;

	switch (rd->section) {
	case SECTION_PROFILE:
		return cvb_opt_set(cvb_profile_opts, p, key, value, rd->err);
	case SECTION_ARM:
		if (!strcmp(key, "like"))
			return arm_like(rd, value);
		return cvb_opt_set(cvb_arm_opts, &p->arms[rd->index], key, value, rd->err);
	case SECTION_BENCH:
		return set_bench_key(rd, key, value);
	case SECTION_GATE:
		return cvb_opt_set(cvb_profile_gate_opts, &p->gates[rd->index], key, value,
				   rd->err);
	case SECTION_NONE:
		break;
	}
	return cvb_err_set(rd->err, -EINVAL, "%s stands before any [section]", key);
}

/*
 * fgets for inih that counts lines, so that a handler knows where it is.  It also opens sections
 * itself: inih says nothing of one without keys and cuts long names.  Leading blanks are dropped,
 * so that an indented line is never taken as the continuation of the value above.
 */
static char *next_line(char *buf, int room, void *ctx)
{
	struct reader *rd = ctx;
	size_t len;

	if (!*rd->at || rd->r < 0)
		return NULL;
	rd->line++;
	rd->at += strspn(rd->at, " \t");
	len = strcspn(rd->at, "\n");
	if (rd->at[len] == '\n')
		len++;
	if (len >= (size_t)room) { /* inih would take the rest as another line */
		rd->r = cvb_err_set(rd->err, -EINVAL, "the line is longer than %d characters",
				    room - 1);
		return NULL;
	}
	memcpy(buf, rd->at, len);
	buf[len] = '\0';
	rd->at += len;

	const char *close = buf[0] == '[' ? strchr(buf, ']') : NULL;

	if (close) {
		char header[128];

		snprintf(header, sizeof(header), "%.*s", (int)(close - buf - 1), buf + 1);
		rd->r = begin_section(rd, header);
		if (rd->r < 0)
			return NULL;
	}
	return buf;
}

/* The later of two would win silently, whichever was meant. */
static int check_once(struct reader *rd, const char *key)
{
	_cleanup_free_ char *name = cvb_strf("%s] %s", rd->header, key);
	const json_t *before = name ? json_object_get(rd->lines, name) : NULL;

	if (before)
		return cvb_err_set(rd->err, -EINVAL,
				   "%s is there twice: first in line %" JSON_INTEGER_FORMAT, key,
				   json_integer_value(before));
	if (!name || json_object_set_new_nocheck(rd->lines, name, json_integer(rd->line)) < 0)
		return cvb_err_set(rd->err, -ENOMEM, "out of memory");
	return 0;
}

static int on_entry(void *ctx, const char *section, const char *key, const char *value)
{
	struct reader *rd = ctx;

	(void)section; /* cut to 50 characters by inih; rd->header is whole */
	if (rd->r < 0 || !key)
		return 1;
	rd->r = check_once(rd, key);
	if (rd->r == 0)
		rd->r = set_key(rd, key, value ? value : "");
	if (rd->r < 0)
		cvb_err_wrap(rd->err, rd->r, "[%s]", rd->header);
	return 1;
}

int cvb_profile_parse(struct cvb_profile *p, struct cvb_err *err)
{
	_cleanup_json_ json_t *lines = json_object();
	struct reader rd = {.p = p, .at = p->text, .lines = lines, .err = err};
	int bad_line = lines ? ini_parse_stream(next_line, &rd, on_entry, &rd) : -1;

	if (rd.r < 0)
		return cvb_err_wrap(err, rd.r, "%s:%u", p->path, rd.line);
	if (bad_line > 0)
		return cvb_err_set(err, -EINVAL,
				   "%s:%d: expected [section], key = value or a comment", p->path,
				   bad_line);
	return bad_line < 0 ? cvb_err_set(err, -ENOMEM, "out of memory reading %s", p->path) : 0;
}
