"""DynamoDB as a target: one item for each entity. It needs no more than boto3, which the base package has."""
