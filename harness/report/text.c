/* SPDX-License-Identifier: Apache-2.0 */
#include "report/text.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HTML_MAX_CHARS 4000

/*
 * The character at s and its length in bytes.  A byte that does not begin a valid UTF-8 sequence
 * counts as one character, '?'.
 */
static uint32_t next_char(const char *s, size_t *ret_bytes)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned char *u = (const unsigned char *)s;
	size_t n = u[0] < 0x80		   ? 1
		   : (u[0] & 0xe0) == 0xc0 ? 2
		   : (u[0] & 0xf0) == 0xe0 ? 3
		   : (u[0] & 0xf8) == 0xf0 ? 4
					   : 0;
	uint32_t c = n < 2 ? u[0] : u[0] & (0xffu >> (n + 1));

	*ret_bytes = 1;
	if (n == 1)
		return c;
	for (size_t i = 1; i < n; i++) {
		if ((u[i] & 0xc0) != 0x80) /* the final NUL too */
			return '?';
		c = c << 6 | (u[i] & 0x3f);
	}
	if (n == 0 || c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return '?';
	*ret_bytes = n;
	return c;
}

/* What may be shown as it is. */
static int harmless(uint32_t c)
{
	static const struct {
		uint32_t first, last;
	} bad[] = {
		{0x00, 0x1f},	    {0x7f, 0x9f},     {0xad, 0xad},	{0x061c, 0x061c},
		{0x180e, 0x180e},   {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f},
		{0xfe00, 0xfe0f},   {0xfeff, 0xfeff}, {0xfff0, 0xfffb}, {0xfffe, 0xffff},
		{0xe0000, 0xe0fff},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (c >= bad[i].first && c <= bad[i].last)
			return 0;
	return 1;
}

typedef void put_fn(FILE *f, uint32_t c, const char *bytes, size_t n);

static void put_plain(FILE *f, uint32_t c, const char *bytes, size_t n)
{
	(void)c;
	fwrite(bytes, 1, n, f);
}

static void put_html(FILE *f, uint32_t c, const char *bytes, size_t n)
{
	switch (c) {
	case '&':
		fputs("&amp;", f);
		break;
	case '<':
		fputs("&lt;", f);
		break;
	case '>':
		fputs("&gt;", f);
		break;
	case '"':
		fputs("&quot;", f);
		break;
	case '\'':
		fputs("&#39;", f);
		break;
	default:
		fwrite(bytes, 1, n, f);
	}
}

static void put_gnuplot(FILE *f, uint32_t c, const char *bytes, size_t n)
{
	(void)n;
	if (c >= 0x80 || strchr("\"\\`@${}~^&%#<>|'", (int)c))
		fputc('?', f);
	else
		fputc(bytes[0], f);
}

static void put_text(FILE *f, const char *s, size_t max_chars, put_fn *put)
{
	size_t bytes = 0;

	for (size_t chars = 0; *s; s += bytes, chars++) {
		uint32_t c = next_char(s, &bytes);

		if (chars == max_chars) {
			fputs("...", f);
			return;
		}
		if (c == '\n' || c == '\t' || c == '\r')
			put(f, ' ', " ", 1);
		else if (!harmless(c) || (c == '?' && *s != '?'))
			put(f, '?', "?", 1);
		else
			put(f, c, s, bytes);
	}
}

char *cvb_text_plain(const char *s, size_t max_chars)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *f = open_memstream(&text, &bytes);

	if (!f)
		return NULL;
	put_text(f, s ? s : "", max_chars, put_plain);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

void cvb_text_html(FILE *f, const char *s)
{
	if (s)
		put_text(f, s, HTML_MAX_CHARS, put_html);
}

void cvb_text_gnuplot(FILE *f, const char *s, size_t max_chars)
{
	fputc('"', f);
	put_text(f, s ? s : "", max_chars, put_gnuplot);
	fputc('"', f);
}

size_t cvb_text_columns(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}
