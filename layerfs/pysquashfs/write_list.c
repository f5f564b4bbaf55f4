/* Writing: a list that grows. */
#include "write_image.h"

int64_t sw_list_append(struct list *list, void *item)
{
	if (list->count == list->room) {
		size_t room = list->room ? list->room * 2 : 256;
		void **items = realloc(list->items, room * sizeof(*items));

		if (items == NULL)
			return SQFS_ERROR_ALLOC;
		list->items = items;
		list->room = room;
	}
	list->items[list->count] = item;
	return (int64_t)list->count++;
}
