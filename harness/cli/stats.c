/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verb `stats`: the engine that judges campaigns, on anyone's own numbers.
 */
#include "cli/stats_part.h"
#include "core/util.h"
#include "stats/describe.h"
#include "stats/gate.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define LINE_BYTES  4096
#define MAX_VALUES  ((size_t)10000000)
#define LABEL_BYTES 128

static const char *const better_names[] = {"higher", "lower", NULL};
static const char *const preset_names[] = {"alert", "explore", NULL};

#define C(field) offsetof(struct cvb_stats_conf, field)
static const struct cvb_opt opts[] = {
	{.name = "margin",
	 .letter = 'm',
	 .type = CVB_OPT_DOUBLE,
	 .offset = C(margin),
	 .min = 1e-6,
	 .max = 1000,
	 .def = "0.99",
	 .help = "ratio: smallest acceptable performance ratio test / base"},
	{.name = "better",
	 .letter = 'b',
	 .type = CVB_OPT_CHOICE,
	 .offset = C(better),
	 .choices = better_names,
	 .def = "higher",
	 .help = "what a larger value means: higher is better (a rate) or lower (a time)"},
	{.name = "kind",
	 .type = CVB_OPT_CHOICE,
	 .offset = C(kind),
	 .choices = cvb_gate_rule_names,
	 .def = "non-inferiority",
	 .help = "ratio: kind of judgement; absolute holds test against --limit"},
	{.name = "limit",
	 .type = CVB_OPT_DOUBLE,
	 .offset = C(limit),
	 .help = "ratio --kind absolute: worst acceptable value of test"},
	{.name = "estimator",
	 .type = CVB_OPT_CHOICE,
	 .offset = C(estimator),
	 .choices = cvb_ratio_estimator_names,
	 .def = "location",
	 .help = "ratio: what is compared: location, throughput (total times), tail (p99), mean"},
	{.name = "pairing",
	 .type = CVB_OPT_CHOICE,
	 .offset = C(pairing),
	 .choices = cvb_pairing_names,
	 .def = "pair",
	 .help = "ratio: how base and test were measured; none compares them by Welch's t"},
	{.name = "looks",
	 .type = CVB_OPT_STR,
	 .offset = C(looks),
	 .arg = "S,S,…",
	 .help = "ratio: planned looks, such as 6,10,16,24; default: one, at what is there"},
	{.name = "alpha",
	 .type = CVB_OPT_DOUBLE,
	 .offset = C(alpha),
	 .min = 1e-9,
	 .max = 0.4999,
	 .help = "one-sided error of each bound; default .05, with 2 to 4 looks .0175 at each, "
		 "with 5 to 8 looks .012"},
	{.name = "resolution",
	 .type = CVB_OPT_DOUBLE,
	 .offset = C(resolution),
	 .min = 1e-12,
	 .max = 10,
	 .help = "ratio: smallest relative step that the instrument can show"},
	{.name = "id", .type = CVB_OPT_STR, .offset = C(id), .help = "ratio: name of the gate"},
	{.name = "metric",
	 .type = CVB_OPT_STR,
	 .offset = C(metric),
	 .help = "ratio: name of the metric"},
	{.name = "preset",
	 .type = CVB_OPT_CHOICE,
	 .offset = C(preset),
	 .choices = preset_names,
	 .def = "alert",
	 .help = "changepoint: few false alarms, or more sensitive"},
	{.name = "json",
	 .type = CVB_OPT_FLAG,
	 .offset = C(json),
	 .help = "print JSON (ratio and describe always do)"},
	CVB_COMMON_OPTS,
	CVB_OPT_END,
};

/* --- input --------------------------------------------------------------------------------------
 */

struct input {
	FILE *f;
	const char *name;
	size_t line; /* number of the line in buf */
	char buf[LINE_BYTES];
	struct cvb_err *err;
};

/* Next line, blanks and line end cut off.  1, 0 at the end, or negative errno. */
static int next_line(struct input *in, char **ret)
{
	char *s = in->buf;
	size_t n;

	if (!fgets(in->buf, sizeof(in->buf), in->f)) {
		if (ferror(in->f))
			return cvb_err_set(in->err, -EIO, "%s: cannot read after line %zu",
					   in->name, in->line);
		return 0;
	}
	in->line++;
	n = strlen(s);
	if (n + 1 == sizeof(in->buf) && s[n - 1] != '\n')
		return cvb_err_set(in->err, -EBADMSG, "%s:%zu: the line is longer than %d bytes",
				   in->name, in->line, LINE_BYTES - 2);
	if (in->line == 1 && !strncmp(s, "\xef\xbb\xbf", 3)) {
		s += 3;
		n -= 3;
	}
	while (n && strchr(" \t\r\n", s[n - 1]))
		s[--n] = '\0';
	*ret = s + strspn(s, " \t");
	return 1;
}

bool cvb_stats_number(const char *text, double *ret)
{
	char *end;

	*ret = strtod(text, &end);
	return end != text && !*end && !strpbrk(text, "xX");
}

static int parse_number(const struct input *in, const char *field, const char *text, double *ret)
{
	if (!cvb_stats_number(text, ret))
		return cvb_err_set(in->err, -EBADMSG, "%s:%zu: %s: \"%.60s\" is not a number",
				   in->name, in->line, field, text);
	return 0;
}

/* --- ratio: CSV ---------------------------------------------------------------------------------
 */

enum {
	COL_SESSION,
	COL_ROUND,
	COL_BASE,
	COL_TEST,
	COLS
};
static const char *const columns[] = {"session", "round", "base", "test", NULL};

/* Labels in order of first sight, found by hash: a session or a round is its number here. */
struct labels {
	char **text;
	size_t n, room;
	unsigned *slot; /* index + 1, or 0 */
	size_t slots;
};

/* Where a row came from. */
struct origin {
	unsigned session; /* numbers of its labels */
	unsigned round;
	size_t line;
};

struct table {
	struct input *in;
	int column[COLS]; /* which field of a line holds it */
	int fields;
	struct cvb_pair *pairs;
	struct origin *origins; /* of the pairs */
	size_t n, room;
	struct labels sessions;
	struct labels rounds;
};

static uint64_t hash(const char *s)
{
	uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * UINT64_C(1099511628211);
	return h;
}

static int labels_grow(struct labels *l)
{
	size_t room = l->room ? 2 * l->room : 64, slots = 4 * room;
	char **text = reallocarray(l->text, room, sizeof(*l->text));
	unsigned *slot = calloc(slots, sizeof(*slot));

	if (text)
		l->text = text;
	if (!text || !slot) {
		free(slot);
		return -ENOMEM;
	}
	for (size_t i = 0; i < l->n; i++) {
		size_t at = hash(l->text[i]) % slots;

		while (slot[at])
			at = (at + 1) % slots;
		slot[at] = (unsigned)i + 1;
	}
	free(l->slot);
	l->slot = slot;
	l->slots = slots;
	l->room = room;
	return 0;
}

/* Number of a label, from 1; it is added when new. */
static int label_number(struct labels *l, const char *text, unsigned *ret)
{
	size_t at;

	if (l->n == l->room && labels_grow(l) < 0)
		return -ENOMEM;
	for (at = hash(text) % l->slots; l->slot[at]; at = (at + 1) % l->slots) {
		if (!strcmp(l->text[l->slot[at] - 1], text)) {
			*ret = l->slot[at];
			return 0;
		}
	}
	l->text[l->n] = strdup(text);
	if (!l->text[l->n])
		return -ENOMEM;
	l->slot[at] = (unsigned)++l->n;
	*ret = (unsigned)l->n;
	return 0;
}

static void labels_done(struct labels *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->text[i]);
	free(l->text);
	free(l->slot);
}

static bool all_digits(const char *s)
{
	return *s && !s[strspn(s, "0123456789")];
}

/* Whole numbers of any length by value. */
static int compare_digits(const char *a, const char *b)
{
	a += strspn(a, "0");
	b += strspn(b, "0");

	size_t na = strlen(a), nb = strlen(b);

	return na != nb ? (na > nb) - (na < nb) : strcmp(a, b);
}

struct ranked {
	const char *text;
	unsigned number;
};

static int compare_ranked(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;
	int d = compare_digits(x->text, y->text);

	return d ? d : (x->number > y->number) - (x->number < y->number);
}

/*
 * Sessions whose labels are all whole numbers are numbered in their order, whatever the order of
 * the rows: planned looks count the first of them.  Other labels stay in order of first sight.
 */
static int order_sessions(struct table *t)
{
	const struct labels *l = &t->sessions;
	_cleanup_free_ struct ranked *ranked = calloc(l->n + 1, sizeof(*ranked));
	_cleanup_free_ unsigned *rank = calloc(l->n + 1, sizeof(*rank));

	if (!ranked || !rank)
		return cvb_err_set(t->in->err, -ENOMEM, "out of memory for %zu sessions", l->n);
	for (size_t i = 0; i < l->n; i++) {
		if (!all_digits(l->text[i]))
			return 0;
		ranked[i] = (struct ranked){l->text[i], (unsigned)i + 1};
	}
	qsort(ranked, l->n, sizeof(*ranked), compare_ranked);
	for (size_t i = 0; i < l->n; i++)
		rank[ranked[i].number] = (unsigned)i + 1;
	for (size_t i = 0; i < t->n; i++)
		t->pairs[i].session = rank[t->pairs[i].session];
	return 0;
}

static int compare_origins(const void *a, const void *b)
{
	const struct origin *x = a, *y = b;

	if (x->session != y->session)
		return x->session < y->session ? -1 : 1;
	if (x->round != y->round)
		return x->round < y->round ? -1 : 1;
	return (x->line > y->line) - (x->line < y->line);
}

/* Each round of a session is there once; a second row would count the same samples twice. */
static int check_rounds(struct table *t)
{
	const struct origin *first = NULL;

	qsort(t->origins, t->n, sizeof(*t->origins), compare_origins);
	for (size_t i = 1; i < t->n; i++) {
		const struct origin *a = &t->origins[i - 1], *b = &t->origins[i];

		if (a->session == b->session && a->round == b->round &&
		    (!first || b->line < first[1].line))
			first = a;
	}
	return first ? cvb_err_set(t->in->err, -EBADMSG,
				   "%s:%zu: session \"%.60s\", round \"%.60s\" is there twice: "
				   "first in line %zu",
				   t->in->name, first[1].line, t->sessions.text[first->session - 1],
				   t->rounds.text[first->round - 1], first->line)
		     : 0;
}

/* Cut a line at its commas; fields lose outer blanks and quotes.  Count, or COLS + 5 if more. */
static int split(char *s, char *field[COLS + 4])
{
	int n = 0;

	for (char *next = s; next; n++) {
		char *f = next, *end;

		next = strchr(f, ',');
		if (next)
			*next++ = '\0';
		f += strspn(f, " \t\"");
		end = f + strlen(f);
		while (end > f && strchr(" \t\"", end[-1]))
			*--end = '\0';
		if (n == COLS + 4)
			return n + 1;
		field[n] = f;
	}
	return n;
}

static int read_header(struct table *t, char *line)
{
	struct input *in = t->in;
	char *field[COLS + 4];
	int n = split(line, field);

	for (int c = 0; c < COLS; c++)
		t->column[c] = -1;
	for (int i = 0; i < cvb_min(n, COLS + 4); i++) {
		int c = 0;

		while (columns[c] && strcmp(columns[c], field[i]) != 0)
			c++;
		if (c == COLS || t->column[c] >= 0) {
			const char *near = c == COLS ? cvb_nearest(field[i], columns) : NULL;

			return cvb_err_set(in->err, -EBADMSG,
					   "%s:%zu: column %d: \"%.60s\" is %s%s%s%s: expected the "
					   "header session,round,base,test",
					   in->name, in->line, i + 1, field[i],
					   c == COLS ? "unknown" : "there twice",
					   near ? "; did you mean " : "", near ? near : "",
					   near ? "?" : "");
		}
		t->column[c] = i;
	}
	for (int c = 0; c < COLS; c++)
		if (t->column[c] < 0)
			return cvb_err_set(in->err, -EBADMSG,
					   "%s:%zu: column %s is missing: expected the header "
					   "session,round,base,test",
					   in->name, in->line, columns[c]);
	t->fields = n;
	return 0;
}

/* Room for one more row. */
static int rows_grow(struct table *t)
{
	size_t room = t->room ? 2 * t->room : 1024;
	void *pairs, *origins;

	if (t->n < t->room)
		return 0;
	if (t->n >= MAX_VALUES)
		return cvb_err_set(t->in->err, -EBADMSG, "%s:%zu: too many rows", t->in->name,
				   t->in->line);
	pairs = reallocarray(t->pairs, room, sizeof(*t->pairs));
	t->pairs = pairs ? pairs : t->pairs;
	origins = reallocarray(t->origins, room, sizeof(*t->origins));
	t->origins = origins ? origins : t->origins;
	if (!pairs || !origins)
		return cvb_err_set(t->in->err, -ENOMEM, "out of memory at line %zu", t->in->line);
	t->room = room;
	return 0;
}

/* The two values of a row. */
static int parse_pair(const struct table *t, char *const *field, struct cvb_pair *p)
{
	const struct input *in = t->in;

	for (int c = COL_BASE; c < COLS; c++) {
		double *v = c == COL_BASE ? &p->base : &p->test;
		int r = parse_number(in, columns[c], field[t->column[c]], v);

		if (r < 0)
			return r;
		if (!isfinite(*v) || *v <= 0)
			return cvb_err_set(in->err, -EBADMSG,
					   "%s:%zu: %s is %g, but a ratio needs positive finite "
					   "numbers",
					   in->name, in->line, columns[c], *v);
	}
	return 0;
}

static int add_row(struct table *t, char *line)
{
	struct input *in = t->in;
	char *field[COLS + 4];
	struct cvb_pair *p;
	struct origin *o;
	int n = split(line, field), r = 0;

	if (n != t->fields)
		return cvb_err_set(
			in->err, -EBADMSG,
			"%s:%zu: %d field%s, but the header has %d (session, round, base, "
			"test)",
			in->name, in->line, n, n == 1 ? "" : "s", t->fields);
	for (int c = 0; c < COLS; c++) {
		const char *text = field[t->column[c]];

		if (!*text || (c < COL_BASE && strlen(text) >= LABEL_BYTES))
			return cvb_err_set(in->err, -EBADMSG, "%s:%zu: %s is %s", in->name,
					   in->line, columns[c], *text ? "too long" : "empty");
	}
	r = rows_grow(t);
	if (r < 0)
		return r;
	p = &t->pairs[t->n];
	o = &t->origins[t->n];
	o->line = in->line;
	p->round = (unsigned)t->n + 1; /* as they come: round labels name, they do not order */
	r = label_number(&t->sessions, field[t->column[COL_SESSION]], &o->session);
	if (r == 0)
		r = label_number(&t->rounds, field[t->column[COL_ROUND]], &o->round);
	if (r < 0)
		return cvb_err_set(in->err, r, "out of memory at line %zu", in->line);
	p->session = o->session;
	r = parse_pair(t, field, p);
	t->n += r == 0;
	return r;
}

static int read_table(struct table *t)
{
	bool header = false;
	char *line;
	int r;

	while ((r = next_line(t->in, &line)) == 1) {
		if (!*line)
			continue;
		r = header ? add_row(t, line) : read_header(t, line);
		if (r < 0)
			return r;
		header = true;
	}
	if (r == 0 && !t->n)
		r = cvb_err_set(t->in->err, -EBADMSG,
				header ? "%s: no row follows the header"
				       : "%s is empty: expected the header session,round,base,test "
					 "and rows",
				t->in->name);
	if (r == 0)
		r = check_rounds(t);
	return r < 0 ? r : order_sessions(t);
}

/* --- ratio: answer ------------------------------------------------------------------------------
 */

static json_t *number(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

static json_t *spikes_json(const struct cvb_spikes *s)
{
	json_t *o = json_pack("{s:I, s:I, s:I}", "base", (json_int_t)s->base, "test",
			      (json_int_t)s->test, "rounds", (json_int_t)s->rounds);

	json_object_set_new(o, "p_test_higher", number(s->p));
	json_object_set_new(o, "test_rate_lower", number(s->rate_lower));
	json_object_set_new(o, "test_rate_upper", number(s->rate_upper));
	return o;
}

static json_t *gate_json(const struct cvb_stats_conf *c, const struct cvb_gate_plan *plan,
			 const struct cvb_gate_answer *a, const struct cvb_spikes *spikes)
{
	const struct cvb_ratio *r = &a->ratio;
	json_t *o = json_pack("{s:s, s:s?, s:s, s:s?, s:s}", "id", c->id ? c->id : "stdin",
			      "metric", c->metric, "arm", "test", "base",
			      c->kind == CVB_RULE_ABSOLUTE ? NULL : "base", "kind",
			      cvb_gate_rule_names[c->kind]);

	json_object_set_new(o, "margin", json_real(plan->margin));
	json_object_set_new(o, "ratio", number(r->ratio));
	json_object_set_new(o, "lower", number(r->lower));
	json_object_set_new(o, "upper", number(r->upper));
	json_object_set_new(o, "sessions", json_integer(r->sessions));
	json_object_set_new(o, "rounds", json_integer(r->rounds));
	json_object_set_new(o, "pairing", json_string(cvb_pairing_names[c->pairing]));
	json_object_set_new(o, "verdict", json_string(cvb_verdict_names[a->verdict]));
	json_object_set_new(o, "reason", json_string(a->reason));
	json_object_set_new(o, "confidence", json_real(1 - a->alpha));
	json_object_set_new(o, "alpha", json_real(a->alpha));
	json_object_set_new(o, "estimator", json_string(cvb_ratio_estimator_names[c->estimator]));
	json_object_set_new(o, "method", json_string(cvb_ratio_method_names[r->method]));
	json_object_set_new(o, "better", json_string(better_names[c->better]));
	if (c->kind == CVB_RULE_ABSOLUTE)
		json_object_set_new(o, "limit", json_real(c->limit));
	json_object_set_new(o, "log_sd", number(r->log_sd));
	json_object_set_new(o, "p_fail", number(r->p_below));
	json_object_set_new(o, "p_pass", number(r->p_above));
	json_object_set_new(o, "look", a->look ? json_integer(a->look) : json_null());
	json_object_set_new(o, "sessions_needed",
			    a->sessions_needed ? json_integer(a->sessions_needed) : json_null());
	json_object_set_new(o, "spikes", spikes_json(spikes));
	return o;
}

/* What cannot be written is told when stdout is flushed. */
static int print_json(const json_t *out, struct cvb_err *err)
{
	_cleanup_free_ char *text = out ? json_dumps(out, JSON_INDENT(2)) : NULL;

	if (!text)
		return cvb_err_set(err, -ENOMEM, "out of memory for the answer");
	printf("%s\n", text);
	return 0;
}

/* The answer is JSON, which is UTF-8. */
static int check_name(const char *option, const char *text, struct cvb_err *err)
{
	_cleanup_json_ json_t *s = json_string(text ? text : "");

	return s ? 0 : cvb_err_set(err, -EINVAL, "%s: expected UTF-8 text", option);
}

static int judge_table(struct table *t, const struct cvb_stats_conf *c, struct cvb_err *err)
{
	struct cvb_gate_plan plan = {.rule = (enum cvb_gate_rule)c->kind,
				     .margin = c->margin,
				     .alpha = c->alpha,
				     .resolution = c->resolution};
	_cleanup_json_ json_t *out = NULL;
	struct cvb_sessions s = {0};
	struct cvb_gate_answer a;
	struct cvb_spikes spikes;
	int r = c->looks ? cvb_gate_parse_looks(c->looks, plan.looks, &plan.n_looks, err) : 0;

	if (r == 0)
		r = cvb_spikes_count(t->pairs, t->n, c->better == CVB_LOWER_IS_BETTER,
				     CVB_GATE_ALPHA, &spikes, err);
	if (c->kind == CVB_RULE_ABSOLUTE) {
		plan.margin = 1;
		for (size_t i = 0; i < t->n; i++)
			t->pairs[i].base = c->limit;
	}
	if (r == 0)
		r = cvb_sessions_make(&s, t->pairs, t->n, c->better == CVB_LOWER_IS_BETTER,
				      (enum cvb_ratio_estimator)c->estimator,
				      (enum cvb_pairing)c->pairing, err);
	if (r == 0)
		r = cvb_gate_judge(&s, &plan, &a, err);
	cvb_sessions_done(&s);
	if (r < 0)
		return r;
	out = gate_json(c, &plan, &a, &spikes);
	r = print_json(out, err);
	return r < 0 ? r : (int)cvb_verdict_code(a.verdict);
}

static int ratio_cli(struct input *in, const struct cvb_stats_conf *c, struct cvb_err *err)
{
	struct table t = {.in = in};
	int r;

	if ((c->kind == CVB_RULE_ABSOLUTE) != (c->limit > 0))
		return cvb_err_set(err, -EINVAL,
				   "--kind absolute and a --limit above 0 belong together");
	r = check_name("--id", c->id, err);
	if (r == 0)
		r = check_name("--metric", c->metric, err);
	if (r == 0)
		r = read_table(&t);
	if (r == 0)
		r = judge_table(&t, c, err);
	free(t.pairs);
	free(t.origins);
	labels_done(&t.sessions);
	labels_done(&t.rounds);
	return r;
}

/* --- describe -----------------------------------------------------------------------------------
 */

static int read_values(struct input *in, double **ret, size_t *ret_n)
{
	size_t n = 0, room = 0;
	char *line;
	int r;

	while ((r = next_line(in, &line)) == 1) {
		if (!*line)
			continue;
		if (n == room) {
			void *more = reallocarray(*ret, room ? 2 * room : 1024, sizeof(**ret));

			if (!more)
				return cvb_err_set(in->err, -ENOMEM, "out of memory at line %zu",
						   in->line);
			*ret = more;
			room = room ? 2 * room : 1024;
		}
		r = parse_number(in, "value", line, &(*ret)[n]);
		if (r == 0 && !isfinite((*ret)[n]))
			r = cvb_err_set(in->err, -EBADMSG, "%s:%zu: value: %s is not finite",
					in->name, in->line, line);
		if (r < 0)
			return r;
		n++;
	}
	if (r == 0 && !n)
		r = cvb_err_set(in->err, -EBADMSG, "%s is empty: expected one number a line",
				in->name);
	*ret_n = n;
	return r;
}

static int describe_cli(struct input *in, struct cvb_err *err)
{
	_cleanup_free_ double *x = NULL;
	_cleanup_json_ json_t *out = NULL;
	struct cvb_describe d;
	size_t n = 0;
	int r = read_values(in, &x, &n);

	if (r == 0)
		r = cvb_describe(x, n, &d, err);
	if (r < 0)
		return r;
	out = json_pack("{s:I}", "n", (json_int_t)d.n);
	json_object_set_new(out, "mean", number(d.mean));
	json_object_set_new(out, "sd", number(d.sd));
	json_object_set_new(out, "lag1", number(d.lag1));
	json_object_set_new(out, "median", number(d.median));
	json_object_set_new(out, "mad", number(d.mad));
	json_object_set_new(out, "min", number(d.min));
	json_object_set_new(out, "max", number(d.max));
	return print_json(out, err);
}

/* --- the verb -----------------------------------------------------------------------------------
 */

static int run(const void *conf, int argc, char **argv, struct cvb_err *err)
{
	static const char *const subjects[] = {"ratio", "describe", "changepoint", NULL};
	const struct cvb_stats_conf *c = conf;
	struct input in = {.f = stdin, .name = "stdin", .err = err};
	const char *near = argc ? cvb_nearest(argv[0], subjects) : NULL;

	if (argc == 1 && !strcmp(argv[0], "ratio"))
		return ratio_cli(&in, c, err);
	if (argc == 1 && !strcmp(argv[0], "describe"))
		return describe_cli(&in, err);
	if (argc == 1 && !strcmp(argv[0], "changepoint"))
		return cvb_stats_changepoint_cli(stdin, "stdin", c, err);
	return cvb_err_set(err, -EINVAL,
			   "stats: expected one of ratio, describe, changepoint%s%s%s",
			   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static const struct cvb_verb verb = {
	.name = "stats",
	.usage = "ratio|describe|changepoint [OPTION]… < NUMBERS",
	.summary = "judge, describe or segment your own numbers from stdin",
	.details =
		"  ratio        CSV with the header session,round,base,test (columns in any order);\n"
		"               answers one gate as JSON, and its verdict as exit code; looks count\n"
		"               sessions by rising number, or as they come if not all are numbers\n"
		"  describe     one number a line; n, mean, sd, lag1, median, mad as JSON\n"
		"  changepoint  one number a line, oldest first; where the level changed\n",
	.order = 60,
	.opts = opts,
	.conf_size = sizeof(struct cvb_stats_conf),
	.run = run,
};
CVB_VERB(verb);
