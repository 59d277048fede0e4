/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of a profile into its struct.
 */
#include "campaign/profile_part.h"
#include "core/ini.h"
#include "core/util.h"

#include <ctype.h>
#include <errno.h>
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
	unsigned line;
	enum section section;
	size_t index; /* of the arm, bench or gate that the section fills */
	struct cvb_err *err;
};

static int begin_arm(struct reader *rd, const char *name)
{
	struct cvb_profile *p = rd->p;

	if (p->n_arms == CVB_PROFILE_MAX_ARMS)
		return cvb_err_set(rd->err, -EINVAL, "more than %d arms", CVB_PROFILE_MAX_ARMS);
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
	rd->index = p->n_gates++;
	g->line = rd->line;
	g->id = strdup(id);
	if (!g->id)
		return cvb_err_set(rd->err, -ENOMEM, "out of memory");
	return cvb_opts_defaults(cvb_profile_gate_opts, g, rd->err);
}

static int begin_section(void *ctx, const char *header, unsigned line, struct cvb_err *err)
{
	static const struct {
		const char *word;
		enum section section;
		int (*begin)(struct reader *, const char *);
	} kinds[] = {{"arm", SECTION_ARM, begin_arm},
		     {"bench", SECTION_BENCH, begin_bench},
		     {"gate", SECTION_GATE, begin_gate}};
	struct reader *rd = ctx;
	const char *name = strchr(header, ' ');

	rd->line = line;
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
			return cvb_err_set(err, -EINVAL,
					   "[%s]: a name is letters, digits, '.', '_' and '-', "
					   "and at most 63 of them",
					   header);
		int r = kinds[i].begin(rd, name + 1);

		if (r == 0)
			rd->section = kinds[i].section;
		return r;
	}
	return cvb_err_set(err, -EINVAL,
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

static int set_key(void *ctx, const char *key, const char *value, unsigned line,
		   struct cvb_err *err)
{
	struct reader *rd = ctx;
	struct cvb_profile *p = rd->p;

	rd->line = line;
	switch (rd->section) {
	case SECTION_PROFILE:
		return cvb_opt_set(cvb_profile_opts, p, key, value, err);
	case SECTION_ARM:
		if (!strcmp(key, "like"))
			return arm_like(rd, value);
		return cvb_opt_set(cvb_arm_opts, &p->arms[rd->index], key, value, err);
	case SECTION_BENCH:
		return set_bench_key(rd, key, value);
	case SECTION_GATE:
		if (!strcmp(key, "margin"))
			p->gates[rd->index].margin_given = true;
		return cvb_opt_set(cvb_profile_gate_opts, &p->gates[rd->index], key, value, err);
	case SECTION_NONE:
		break;
	}
	cvb_bug(__FILE__, __LINE__, "a key without a section");
}

int cvb_profile_parse(struct cvb_profile *p, struct cvb_err *err)
{
	static const struct cvb_ini_ops ops = {.section = begin_section, .key = set_key};
	struct reader rd = {.p = p, .err = err};

	return cvb_ini_parse(p->text, p->path, &ops, &rd, err);
}
