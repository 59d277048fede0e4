/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of `stats ratio`: CSV with the header session,round,base,test.
 */
#include "cli/stats_part.h"
#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define MAX_ROWS    ((size_t)10000000)
#define LABEL_BYTES 128

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
	struct cvb_stats_input *in;
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
	struct cvb_stats_input *in = t->in;
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
	if (t->n >= MAX_ROWS)
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
	const struct cvb_stats_input *in = t->in;

	for (int c = COL_BASE; c < COLS; c++) {
		double *v = c == COL_BASE ? &p->base : &p->test;
		int r = cvb_stats_parse_number(in, columns[c], field[t->column[c]], v);

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
	struct cvb_stats_input *in = t->in;
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

	while ((r = cvb_stats_next_line(t->in, &line)) == 1) {
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

int cvb_stats_table_read(struct cvb_stats_input *in, struct cvb_pair **ret, size_t *ret_n)
{
	struct table t = {.in = in};
	int r = read_table(&t);

	if (r == 0) {
		*ret = CVB_TAKE(t.pairs);
		*ret_n = t.n;
	}
	free(t.pairs);
	free(t.origins);
	labels_done(&t.sessions);
	labels_done(&t.rounds);
	return r;
}
