{
  const rd = document.querySelector("form.sign-in input[name=rd]");
  const link = document.querySelector("#continue");
  if (location.hash && !rd.value.includes("#")) {
    rd.value = (rd.value || "/") + location.hash;
    if (link) link.href += location.hash;
  }
}
