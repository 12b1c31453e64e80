/* Some of a night's emails, the typical ones first: complete, with as many titles as most have, and with titles whose
   popularity is that of the middle half. */
WITH picks AS (
    SELECT *, count(*) OVER (PARTITION BY item_id) AS readers FROM email_list WHERE run_date = %(run_date)s
), emails AS (
    SELECT user_id, name, email, count(*) AS titles, avg(readers)::float8 AS readers,
           trim(coalesce(name, '')) <> '' AND coalesce(email, '') <> '' AS complete
    FROM picks GROUP BY user_id, name, email
), middle AS (
    SELECT mode() WITHIN GROUP (ORDER BY titles) AS titles,
           percentile_cont(ARRAY[0.25, 0.75]) WITHIN GROUP (ORDER BY readers) AS readers
    FROM emails
), chosen AS (
    SELECT emails.*, row_number() OVER (
        ORDER BY NOT complete, emails.titles <> middle.titles,
                 emails.readers NOT BETWEEN middle.readers[1] AND middle.readers[2], user_id
    ) AS place
    FROM emails CROSS JOIN middle ORDER BY place LIMIT %(emails)s
)
SELECT user_id, chosen.name, chosen.email, json_agg(json_build_object(
    'rank', rank, 'item_id', item_id, 'title', title, 'genres', genres, 'art', abs(hashtext(item_id)::bigint)
) ORDER BY rank)
FROM chosen JOIN picks USING (user_id) GROUP BY place, user_id, chosen.name, chosen.email ORDER BY place
