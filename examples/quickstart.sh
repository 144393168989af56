echo "one job"
echo "another job" && echo "a combined job (bash syntax applies)"
bash examples/local.sh && echo "local files come along"
