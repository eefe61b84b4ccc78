#!/usr/bin/env python3
"""Sends malformed requests to our API server and to upstream's: both must answer with the same code and reason, and
ours never with a 5xx, nor with none, where upstream's does not. Both start empty, on one etcd.

Where upstream's own answer is a 5xx with the same code and reason (503 for a proxy without endpoints, 500 for a resource
version on create and for applied fields that the schema lacks), or where Go's server gives none either, the answer is
counted and printed apart, and does not fail the run. 504 is what a short `timeout` asks for.

Known to differ: a body of YAML that is a tab (no token for upstream, nothing for us), and `/openapi/v2` refused with 406
(upstream's answer has no body).

Usage: run.py UPSTREAM OURS [COUNT [SEED]], where UPSTREAM and OURS are kube-apiserver binaries; etcd comes from PATH.
"""
import collections, http.client, json, random, re, ssl, subprocess, sys, tempfile, time, urllib.error, urllib.request

CONTEXT = ssl._create_unverified_context()


def start(directory, name, binary, port, etcd):
    """Starts an API server and waits until it is ready."""
    log = open(f"{directory}/{name}.log", "w")
    child = subprocess.Popen(
        [binary, f"--etcd-servers={etcd}", f"--etcd-prefix=/{name}", f"--secure-port={port}", "--bind-address=127.0.0.1",
         f"--cert-dir={directory}/{name}", "--service-cluster-ip-range=10.0.0.0/16",
         f"--service-account-key-file={directory}/sa.key", f"--service-account-signing-key-file={directory}/sa.key",
         "--service-account-issuer=https://kubernetes.default.svc", f"--token-auth-file={directory}/tokens.csv",
         "--authorization-mode=Node,RBAC", "--endpoint-reconciler-type=none", "--allow-privileged=true"],
        stdout=log, stderr=log)
    for _ in range(240):
        try:
            request = urllib.request.Request(f"https://127.0.0.1:{port}/readyz", headers={"Authorization": "Bearer admintoken"})
            urllib.request.urlopen(request, context=CONTEXT, timeout=5)
            return child
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    child.kill()
    sys.exit(f"{name} did not become ready: see {directory}/{name}.log")


class Raw(http.client.HTTPSConnection):
    """Sends paths as they are, be they no ASCII."""
    def _encode_request(self, request):
        return request.encode("latin1")


class C:
    """A connection to one server, kept open."""
    def __init__(s,port): s.port=port; s.c=None
    def do(s,m,p,h,b):
        for t in range(2):
            try:
                if s.c is None: s.c=Raw('127.0.0.1',s.port,context=CONTEXT,timeout=15)
                s.c.putrequest(m,p,skip_accept_encoding=True)
                hh=dict(h); hh.setdefault('Authorization','Bearer admintoken')
                if b is not None and 'Content-Length' not in hh: hh['Content-Length']=str(len(b))
                for k,v in hh.items(): s.c.putheader(k,v)
                s.c.endheaders(b)
                r=s.c.getresponse();
                d=r.read(200000)
                if r.headers.get('Connection')=='close' or len(d)>=200000: s.c.close(); s.c=None
                return r.status,d,r.headers.get('Content-Type')
            except Exception as e:
                s.c=None; err=e
        return -1,repr(err).encode(),None
RES=[('api/v1','pods',1),('api/v1','configmaps',1),('api/v1','services',1),('api/v1','nodes',0),('api/v1','namespaces',0),('apis/apps/v1','deployments',1),('apis/batch/v1','jobs',1),('apis/rbac.authorization.k8s.io/v1','clusterroles',0),('api/v1','secrets',1),('apis/apps/v1','statefulsets',1),('api/v1','serviceaccounts',1),('apis/coordination.k8s.io/v1','leases',1),('apis/networking.k8s.io/v1','ingresses',1),('apis/storage.k8s.io/v1','storageclasses',0),('apis/autoscaling/v2','horizontalpodautoscalers',1),('apis/policy/v1','poddisruptionbudgets',1)]
KIND={'pods':'Pod','configmaps':'ConfigMap','services':'Service','nodes':'Node','namespaces':'Namespace','deployments':'Deployment','jobs':'Job','clusterroles':'ClusterRole','secrets':'Secret','statefulsets':'StatefulSet','serviceaccounts':'ServiceAccount','leases':'Lease','ingresses':'Ingress','storageclasses':'StorageClass','horizontalpodautoscalers':'HorizontalPodAutoscaler','poddisruptionbudgets':'PodDisruptionBudget'}
SUBS=['status','scale','log','exec','attach','portforward','proxy','binding','eviction','ephemeralcontainers','resize','token','finalize','nosuch','approval','proxy/x/y','status/x']
CT=['application/json','application/yaml','application/vnd.kubernetes.protobuf','application/cbor','application/json-patch+json','application/merge-patch+json','application/strategic-merge-patch+json','application/apply-patch+yaml','text/plain','x','','application/json; charset=utf-8','application/json;q','multipart/form-data','application/apply-patch+cbor']
ACC=['application/json','*/*','text/html','application/yaml','application/vnd.kubernetes.protobuf','application/json;as=Table;v=v1;g=meta.k8s.io','application/json;as=Table;v=v9;g=meta.k8s.io','application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io','application/json;as=Nope;v=v1;g=meta.k8s.io','x/y','application/json;stream=watch','text/*','application/*','','application/json;as=Table;v=v1;g=meta.k8s.io,application/json',';;;','application/cbor','application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io']
Q=['limit=x','limit=-1','limit=1','continue=xx','resourceVersion=x','resourceVersion=-1','resourceVersion=99999999999999999999','resourceVersion=999999999','resourceVersionMatch=Exact','resourceVersionMatch=Nope&resourceVersion=1','resourceVersionMatch=NotOlderThan&resourceVersion=0','watch=maybe','watch=1&timeoutSeconds=1','watch=true&timeoutSeconds=1&resourceVersion=abc','labelSelector=a,,b','labelSelector=a%20in','labelSelector=%3D%3D','labelSelector=a%20in%20(b)','fieldSelector=x','fieldSelector=status.nope%3D1','fieldSelector=metadata.name%3Da','fieldSelector=metadata.name%3D%3D%3D','pretty=1','dryRun=All','dryRun=Nope','dryRun=All&dryRun=All','dryRun=','fieldManager=%C3%A9%00','fieldManager='+'a'*129,'fieldManager=ok','force=x','force=true','fieldValidation=Strict','fieldValidation=Nope','propagationPolicy=Nope','propagationPolicy=Orphan&orphanDependents=true','gracePeriodSeconds=-1','gracePeriodSeconds=x','sendInitialEvents=true','sendInitialEvents=true&watch=1&timeoutSeconds=1','allowWatchBookmarks=x','timeoutSeconds=x','timeout=x','timeout=1h','timeout=-1s','%zz','a=%zz','=','&&','container=','follow=x','tailLines=x','tailLines=-1','stream=Nope','orphanDependents=x','includeObject=Nope','includeObject=Metadata','ignoreStoreReadErrorWithClusterBreakingPotential=true','exact=true','export=true']
NAMES=['a','A','a_b','a/b','..','.','%2e%2e','a%2Fb','a%00','é'.encode().decode('latin1'),'x'*254,'-','a.b','default','kube-system','','%','no-such-name']
NS=['default','nope','','..','A_B','kube-system','%2F']
def body(r,res):
    k=KIND[res]; gv=[g for g,x,_ in RES if x==res][0].split('/',1)[1]
    o={'apiVersion':gv,'kind':k,'metadata':{'name':'a'}}
    if res=='pods': o['spec']={'containers':[{'name':'c','image':'i'}]}
    if res=='services': o['spec']={'ports':[{'port':80}]}
    if res in('deployments','statefulsets'): o['spec']={'selector':{'matchLabels':{'a':'b'}},'template':{'metadata':{'labels':{'a':'b'}},'spec':{'containers':[{'name':'c','image':'i'}]}}}
    if res=='jobs': o['spec']={'template':{'spec':{'restartPolicy':'Never','containers':[{'name':'c','image':'i'}]}}}
    if res=='storageclasses': o['provisioner']='x/y'
    def mut(o):
        w=r.randrange(14)
        if w==0: o['apiVersion']=r.choice(['','v2','apps/v1','a/b/c',None,1,'v1'])
        elif w==1: o['kind']=r.choice(['','Nope','Pod','List','Status',None,1])
        elif w==2: o['metadata']=r.choice([None,[],'x',{}, {'name':1},{'name':'A_b'},{'generateName':'A_'},{'name':'a','labels':{'a b':'c'}},{'name':'a','annotations':{'x':1}},{'name':'a','namespace':'other'},{'name':'a','uid':'x'},{'name':'a','resourceVersion':'5'},{'name':'a','resourceVersion':'x'},{'name':'a','creationTimestamp':'yesterday'},{'name':'a','finalizers':['x']},{'name':'a','ownerReferences':[{}]},{'name':'a','managedFields':[{'manager':'x','operation':'Nope'}]},{'name':'a','deletionGracePeriodSeconds':'x'}])
        elif w==3: o['spec']=r.choice([None,[],'x',1,{},{'containers':{}},{'containers':[1]},{'containers':[{'name':1}]},{'replicas':'x'},{'replicas':-1},{'ports':[{'port':'x'}]},{'nosuch':1},{'template':[]},{'selector':'x'}])
        elif w==4: o['status']=r.choice([None,[],'x',{},{'phase':1},{'conditions':{}}])
        elif w==5: o['nosuch']=1
        elif w==6: o['data']=r.choice([[],'x',{'a':1},{'a b':'c'},{'a':'%%%'},None])
        elif w==7: o['spec']=dict(o['spec'] if isinstance(o.get('spec'),dict) else {},**{'activeDeadlineSeconds':r.choice([-1,'x',1.5,1e30])})
        elif w==8: o['rules']=r.choice([[{}],[{'verbs':[]}],'x',[{'verbs':['get']}],{}])
        return o
    t=r.randrange(20)
    if t<11:
        s=json.dumps(mut(mut(o)))
        if r.random()<.15:
            i=r.randrange(len(s)); s=s[:i]+r.choice(['"','{','}','[',',','\\',':','0','\x00','é'])+s[i+r.randrange(2):]
        if r.random()<.05: s=s[:r.randrange(len(s))]
        if r.random()<.05: s=s.replace('"kind"','"kind":"Pod","kind"',1)
        return s.encode('utf8')
    return r.choice([b'',b'{}',b'[]',b'null',b'1',b'"x"',b'{',b'\xff\xfe',b'k8s\x00',b'k8s\x00\x0a\x01',b'k8s\x00\x0a\x05\x0a\x01v\x12\x00',b'[{"op":"nope"}]',b'[{"op":"add","path":"x"}]',b'[{"op":"remove","path":"/metadata/name"}]',b'[{"op":"test","path":"/metadata/name","value":"zz"}]',b'{"metadata":{"name":"b"}}',b'{"metadata":null}',b'{"spec":{"$patch":"nope"}}',b'{"$setElementOrder/x":1}',b'a: b: c',b'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n',b'- a\n- b',b'\t',b'{"a":'*2000, b'['*20000, b'{"apiVersion":"v1","kind":"Status"}',b'{"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Nope"}',b'{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"x"}}',b'{"kind":"DeleteOptions","gracePeriodSeconds":"x"}',b'{"gracePeriodSeconds":-5}',b'{"apiVersion":"v1","kind":"List","items":[]}',b'\xd9\xd9\xf7\xa0',b'\xd9\xd9\xf7\xff', b'{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"zz"}}', b'{"kind":"Scale","apiVersion":"autoscaling/v1","spec":{"replicas":-1}}', b'{"kind":"Binding","apiVersion":"v1","target":{}}',b'{"apiVersion":"v1","kind":"DeleteOptions","dryRun":["Nope"]}'])
def gen(r):
    g,res,nsd=r.choice(RES)
    p='/'+g
    u=r.random()
    if nsd and u<.85: p+='/namespaces/'+(r.choice(NS) if r.random()<.3 else 'default')
    if u>.97: p+=r.choice(['/watch','/proxy','/nosuch','//'])
    p+='/'+(res if r.random()<.96 else r.choice(['nosuch','',res.upper(),res[:-1]]))
    named=r.random()<.6
    if named: p+='/'+r.choice(NAMES)
    if named and r.random()<.3: p+='/'+r.choice(SUBS)
    if r.random()<.03: p=r.choice(['/','/api','/apis','/apis/nope','/apis/apps/v9','/api/v2','/api/v1/','/apis/apps','/openapi/v3/nope','/openapi/v2','/healthz/nope','/metrics','/version','/version/x','/logs/x','/livez/etcd','/readyz/nope','/api/v1/namespaces/default/pods/','//api/v1/pods','/api//v1','/apis//','/api/v1/watch/pods','/api/v1/watch/namespaces/default/pods/a','/api/v1/proxy/x','/apis/authorization.k8s.io/v1/selfsubjectaccessreviews','/apis/authentication.k8s.io/v1/tokenreviews','/openid/v1/jwks','/static','/ui','/swagger.json','/swaggerapi','/debug/pprof/x'])
    q=[]
    while r.random()<.4: q.append(r.choice(Q))
    if q: p+='?'+'&'.join(q)
    m=r.choice(['GET','GET','POST','POST','PUT','PUT','PATCH','PATCH','DELETE','DELETE','HEAD','OPTIONS','TRACE','NOPE','get','CONNECT']) if r.random()<.5 else r.choice(['GET','POST','PUT','PATCH','DELETE'])
    if m=='CONNECT': m='POST'
    h={}
    b=None
    if m in('POST','PUT','PATCH') or r.random()<.15: b=body(r,res)
    if b is not None:
        if r.random()<.6: h['Content-Type']={'PATCH':r.choice(CT[4:8])}.get(m,'application/json')
        else:
            c=r.choice(CT)
            h['Content-Type']=c
    if r.random()<.3: h['Accept']=r.choice(ACC)
    a=r.random()
    if a<.03: h['Authorization']=r.choice(['Bearer nope','Basic x','Bearer','','Nope nope','Bearer usertoken'])
    elif a<.06:
        h['Impersonate-'+r.choice(['User','Group','Uid','Extra-a','Nope'])]=r.choice(['x','','system:masters'])
    if r.random()<.03: h[r.choice(['Connection','Upgrade','X-Forwarded-For','If-None-Match','Content-Encoding','Accept-Encoding','Range','Expect'])]=r.choice(['gzip','Upgrade','websocket','x'])
    return m,p,h,b
def reason(d,ct):
    try:
        o=json.loads(d)
        if o.get('kind')=='Status': return (o.get('reason'),o.get('message'))
        return (o.get('kind'),None)
    except Exception:
        t=d.decode('latin1'); m=re.search(r'^reason: (\w+)',t,re.M); k=re.search(r'^kind: (\w+)',t,re.M)
        if m: return (m.group(1),t[:200])
        return (k.group(1) if k and k.group(1)!='Status' else None,t[:120])
def failed(code):
    """Whether an answer is one that no request should get: 504 is what a short timeout asks for."""
    return code >= 500 and code != 504 or code < 0


def show(title, groups, most):
    """Prints the largest groups first, with examples."""
    for key, examples in sorted(groups.items(), key=lambda g: -len(g[1])):
        print(len(examples), f"times {title}:", key)
        for example in examples[:most]:
            print("    ", example)


def compare(upstream, ours, count, seed):
    """Returns how many answers differ, how many of ours alone are failures, and how many of both; prints examples of
    each kind of difference."""
    groups, failures, shared, rng = collections.OrderedDict(), collections.OrderedDict(), collections.OrderedDict(), random.Random(seed)
    for _ in range(count):
        method, path, headers, body = gen(rng)
        if "watch" in path and method in ("GET", "get") and "timeoutSeconds" not in path:
            path += ("&" if "?" in path else "?") + "timeoutSeconds=1"
        theirs, mine = upstream.do(method, path, headers, body), ours.do(method, path, headers, body)
        (their_reason, their_text), (my_reason, my_text) = reason(theirs[1], theirs[2]), reason(mine[1], mine[2])
        same = (theirs[0], their_reason) == (mine[0], my_reason)
        example = (path[:160], headers, (body or b"")[:300], their_text, my_text)
        if failed(mine[0]):
            kept, key = (shared, (mine[0], my_reason)) if same else (failures, (theirs[0], their_reason, mine[0], my_reason))
            kept.setdefault(key + (method,), []).append(example)
        # Upstream's own failures are nobody's model.
        if not same and not failed(theirs[0]):
            groups.setdefault((theirs[0], their_reason, mine[0], my_reason, method), []).append(example)
    show("both fail alike", shared, 1)
    show("only ours fails (upstream, ours)", failures, 3)
    show("(upstream, ours)", groups, 3)
    return [sum(map(len, found.values())) for found in (groups, failures, shared)]


def main():
    count, seed = int(sys.argv[3]) if len(sys.argv) > 3 else 10000, int(sys.argv[4]) if len(sys.argv) > 4 else 1
    children = []
    with tempfile.TemporaryDirectory() as directory:
        try:
            subprocess.run(["openssl", "genrsa", "-out", f"{directory}/sa.key", "2048"], check=True, capture_output=True)
            open(f"{directory}/tokens.csv", "w").write('admintoken,admin,admin,"system:masters"\nusertoken,bob,bob,"devs"\n')
            log = open(f"{directory}/etcd.log", "w")
            etcd = "http://127.0.0.1:22379"
            children.append(subprocess.Popen(
                ["etcd", "--data-dir", f"{directory}/etcd", "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
                 "--listen-peer-urls", "http://127.0.0.1:22380"], stdout=log, stderr=log))
            for name, binary, port in [("upstream", sys.argv[1], 36443), ("ours", sys.argv[2], 46443)]:
                children.append(start(directory, name, binary, port, etcd))
            time.sleep(3)
            different, failures, shared = compare(C(36443), C(46443), count, seed)
        finally:
            for child in reversed(children):
                child.terminate()
                child.wait()
    print(f"{count} requests: {different} answers differ, {failures} of ours alone are 5xx or none, "
          f"{shared} of both alike")
    sys.exit(1 if different or failures else 0)


if __name__ == "__main__":
    main()
