/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulator's bounce buffer: ciphertext only, and every change of it is reported.
 */
#include "fixture.h"

/* ---- the emulator's bounce buffer ---- */

static const char secret[] = "plaintext must not cross unsealed";

/* What the probe does with a sealed chunk, and what it saw. */
struct spy {
	const uint8_t *bounce;
	size_t bounce_bytes;
	unsigned seen, plain; /* chunks; chunks while the secret lay in the bounce buffer */
	uint8_t first[EMU_SLOTS + 4][16]; /* how the first chunks began */
	int flip_chunk;			  /* -1: none */
	size_t flip_offset;		  /* EMU_CHUNK_BYTES and above: in the tag */
	bool replay;			  /* put chunk 0 again in place of chunk 1 */
	struct emu_slot old;
};

static void spy_sealed(void *arg, enum cvb_gpu_dir dir, struct emu_slot *slot, size_t bytes)
{
	struct spy *s = arg;

	(void)dir;
	(void)bytes;
	if (memmem(s->bounce, s->bounce_bytes, secret, sizeof(secret) - 1))
		s->plain++;
	if (s->seen < CVB_ARRAY_LEN(s->first))
		memcpy(s->first[s->seen], slot->data, sizeof(s->first[0]));
	if (s->flip_chunk == (int)s->seen) {
		if (s->flip_offset < EMU_CHUNK_BYTES)
			slot->data[s->flip_offset] ^= 1;
		else
			slot->tag[0][s->flip_offset - EMU_CHUNK_BYTES] ^= 1;
	}
	if (s->replay && s->seen == 0)
		s->old = *slot;
	if (s->replay && s->seen == 1)
		*slot = s->old;
	s->seen++;
}

struct spied {
	struct fixture *f;
	struct spy *spy;
	struct cvb_gpu_buf *host, *device;
	size_t bytes;
};

/* `chunks` whole chunks and a few bytes more, all of them the secret. */
static struct spied spied_setup(struct fixture *f, enum cvb_gpu_dir dir, enum cvb_gpu_mem kind,
				size_t chunks)
{
	struct spied s = {.f = f, .bytes = chunks * CHUNK + 100};

	s.host = alloc(f, kind, s.bytes);
	s.device = alloc(f, CVB_GPU_DEVICE, s.bytes);
	char *p = cvb_gpu_buf_host(s.host);

	for (size_t i = 0; i < s.bytes; i++)
		p[i] = secret[i % CHUNK % (sizeof(secret) - 1)];
	copy(f, s.device, 0, s.host, 0, s.bytes);
	s.spy = calloc(1, sizeof(*s.spy));
	assert_non_null(s.spy);
	s.spy->flip_chunk = -1;
	s.spy->bounce = emu_bounce(f->gpu, dir, &s.spy->bounce_bytes);
	assert_non_null(s.spy->bounce);
	emu_set_probe(f->gpu, &(struct emu_probe){.sealed = spy_sealed, .arg = s.spy});
	return s;
}

static int spied_copy(struct spied *s, enum cvb_gpu_dir dir)
{
	bool in = dir == CVB_GPU_H2D;

	s->spy->seen = 0;
	cvb_err_clear(&s->f->err);
	return cvb_gpu_copy_async(s->f->stream, in ? s->device : s->host, 0,
				  in ? s->host : s->device, 0, s->bytes, &s->f->err);
}

static void spied_done(struct spied *s)
{
	emu_set_probe(s->f->gpu, NULL);
	cvb_gpu_free(s->host);
	cvb_gpu_free(s->device);
	free(s->spy);
}

static void test_bounce_holds_ciphertext_only(void **state)
{
	struct fixture *f = *state;
	const enum cvb_gpu_mem kinds[] = {CVB_GPU_HOST_PINNED, CVB_GPU_HOST_PAGEABLE};

	for (size_t i = 0; i < 4; i++) {
		enum cvb_gpu_dir dir = i % 2 ? CVB_GPU_D2H : CVB_GPU_H2D;
		struct spied s = spied_setup(f, dir, kinds[i / 2], EMU_SLOTS + 3);

		assert_int_equal(spied_copy(&s, dir), 0);
		assert_int_equal(s.spy->seen, EMU_SLOTS + 4);
		assert_int_equal(s.spy->plain, 0);
		/* the same plaintext never gives the same ciphertext: each chunk has its own IV */
		for (size_t a = 0; a < s.spy->seen; a++)
			for (size_t b = 0; b < a; b++)
				assert_memory_not_equal(s.spy->first[a], s.spy->first[b], 16);
		/* nor in the next copy, which begins where this one ended */
		uint8_t before[16];

		memcpy(before, s.spy->first[0], sizeof(before));
		assert_int_equal(spied_copy(&s, dir), 0);
		assert_memory_not_equal(before, s.spy->first[0], sizeof(before));
		spied_done(&s);
	}
}

static void assert_tag_error(struct spied *s, int r)
{
	char text[512];

	assert_int_equal(r, -EBADMSG);
	cvb_err_text(&s->f->err, text, sizeof(text));
	assert_non_null(strstr(text, "tag check failed"));
}

static void test_changed_ciphertext_is_reported(void **state)
{
	struct fixture *f = *state;
	static const struct {
		int chunk;
		size_t offset;
	} flips[] = {{0, 0}, {1, 4097}, {2, CHUNK - 1}, {0, CHUNK}, {2, CHUNK + 15}, {3, 99}};

	for (int dir = CVB_GPU_H2D; dir <= CVB_GPU_D2H; dir++) {
		struct spied s = spied_setup(f, (enum cvb_gpu_dir)dir, CVB_GPU_HOST_PINNED, 3);
		_cleanup_free_ char *sent = malloc(s.bytes);
		char *p = cvb_gpu_buf_host(s.host);

		assert_non_null(sent);
		memcpy(sent, p, s.bytes);
		for (size_t i = 0; i < CVB_ARRAY_LEN(flips); i++) {
			s.spy->flip_chunk = flips[i].chunk;
			s.spy->flip_offset = flips[i].offset;
			assert_tag_error(&s, spied_copy(&s, (enum cvb_gpu_dir)dir));
			size_t bad = (size_t)flips[i].chunk * CHUNK;

			/* what failed its check is not handed on */
			if (dir == CVB_GPU_D2H)
				assert_true(all_bytes((uint8_t *)p + bad,
						      cvb_min(CHUNK, s.bytes - bad), 0));
			/* one bad copy does not spoil the next */
			s.spy->flip_chunk = -1;
			assert_int_equal(spied_copy(&s, (enum cvb_gpu_dir)dir), 0);
			sync_stream(f);
			assert_memory_equal(p, sent, s.bytes);
		}
		spied_done(&s);
	}
}

static void test_replayed_chunk_is_reported(void **state)
{
	struct fixture *f = *state;

	for (int dir = CVB_GPU_H2D; dir <= CVB_GPU_D2H; dir++) {
		struct spied s = spied_setup(f, (enum cvb_gpu_dir)dir, CVB_GPU_HOST_PAGEABLE, 3);

		s.spy->replay = true;
		assert_tag_error(&s, spied_copy(&s, (enum cvb_gpu_dir)dir));
		spied_done(&s);
	}
}

static void test_no_bounce_without_cc(void **state)
{
	struct fixture *f = *state;
	size_t bytes;

	assert_null(emu_bounce(f->gpu, CVB_GPU_H2D, &bytes));
	assert_null(emu_bounce(f->gpu, CVB_GPU_D2H, &bytes));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON(test_bounce_holds_ciphertext_only, CC),
		ON(test_changed_ciphertext_is_reported, CC),
		ON(test_replayed_chunk_is_reported, CC),
		ON(test_no_bounce_without_cc, NO_CC),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
