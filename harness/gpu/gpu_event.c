/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events: the wrappers that check arguments once and call the backend.
 */
#include "gpu/gpu_check.h"

int cvb_gpu_event_new(struct cvb_gpu *gpu, struct cvb_gpu_event **ret, struct cvb_err *err)
{
	if (!gpu)
		return cvb_gpu_no_handle("event_new", "device", err);
	if (!gpu->backend->event_new || !gpu->backend->event_free)
		return cvb_gpu_no_hook(gpu, "event_new", err);
	struct cvb_gpu_event *event = calloc(1, sizeof(*event));

	if (!event)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	event->gpu = gpu;
	int r = gpu->backend->event_new(event, err);

	if (r < 0) {
		free(event);
		return cvb_err_wrap(err, r, "making an event");
	}
	pthread_mutex_lock(&gpu->lock);
	LIST_INSERT_HEAD(&gpu->events, event, link);
	pthread_mutex_unlock(&gpu->lock);
	*ret = event;
	return 0;
}

struct cvb_gpu_event *cvb_gpu_event_free(struct cvb_gpu_event *event)
{
	if (!event)
		return NULL;
	pthread_mutex_lock(&event->gpu->lock);
	LIST_REMOVE(event, link);
	pthread_mutex_unlock(&event->gpu->lock);
	event->gpu->backend->event_free(event);
	free(event);
	return NULL;
}

/* An event and a stream of one device, or, where `peer_ok`, of a device and its peer. */
static int check_event(const char *call, const struct cvb_gpu_event *event,
		       const struct cvb_gpu_stream *stream, bool peer_ok, struct cvb_err *err)
{
	if (!event || !stream)
		return cvb_gpu_no_handle(call, event ? "stream" : "event", err);
	bool is_peer = event->gpu->peer_of == stream->gpu || event->gpu == stream->gpu->peer_of;

	if (event->gpu != stream->gpu && !(peer_ok && is_peer))
		return cvb_err_set(err, -EINVAL, "%s: the event is another device's", call);
	return 0;
}

int cvb_gpu_event_record(struct cvb_gpu_event *event, struct cvb_gpu_stream *stream,
			 struct cvb_err *err)
{
	int r = check_event("event_record", event, stream, /* peer_ok= */ false, err);

	if (r < 0)
		return r;
	if (!stream->gpu->backend->event_record)
		return cvb_gpu_no_hook(stream->gpu, "event_record", err);
	r = cvb_gpu_not_captured(stream, "event_record", err);
	if (r < 0)
		return r;
	return stream->gpu->backend->event_record(event, stream, err);
}

int cvb_gpu_event_wait(struct cvb_gpu_stream *stream, struct cvb_gpu_event *event,
		       struct cvb_err *err)
{
	int r = check_event("event_wait", event, stream, /* peer_ok= */ true, err);

	if (r < 0)
		return r;
	if (!stream->gpu->backend->event_wait)
		return cvb_gpu_no_hook(stream->gpu, "event_wait", err);
	r = cvb_gpu_not_captured(stream, "event_wait", err);
	if (r < 0)
		return r;
	return stream->gpu->backend->event_wait(stream, event, err);
}

int cvb_gpu_event_sync(struct cvb_gpu_event *event, struct cvb_err *err)
{
	if (!event)
		return cvb_gpu_no_handle("event_sync", "event", err);
	if (!event->gpu->backend->event_sync)
		return cvb_gpu_no_hook(event->gpu, "event_sync", err);
	return event->gpu->backend->event_sync(event, err);
}

int cvb_gpu_event_elapsed_ns(const struct cvb_gpu_event *from, const struct cvb_gpu_event *to,
			     int64_t *ret_ns, struct cvb_err *err)
{
	if (!from || !to)
		return cvb_gpu_no_handle("event_elapsed_ns", "event", err);
	if (from->gpu != to->gpu)
		return cvb_err_set(err, -EINVAL, "event_elapsed_ns: events of two devices");
	if (!from->gpu->backend->event_elapsed_ns)
		return cvb_gpu_no_hook(from->gpu, "event_elapsed_ns", err);
	return from->gpu->backend->event_elapsed_ns(from, to, ret_ns, err);
}
