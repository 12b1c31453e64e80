/* Why somebody is recommended a title: one that they watched, which it is among the most similar ones of. */
SELECT DISTINCT ON (pick.user_id, pick.item_id) pick.user_id, pick.item_id, watched.title
FROM email_list AS pick
JOIN views USING (user_id)
JOIN similar_items AS alike ON alike.item_id = views.item_id AND alike.related_item_id = pick.item_id
JOIN items AS watched ON watched.item_id = views.item_id
WHERE pick.run_date = %(run_date)s AND pick.user_id = ANY(%(users)s) AND watched.title <> ''
ORDER BY pick.user_id, pick.item_id, alike.rank, views.watched DESC, watched.item_id
